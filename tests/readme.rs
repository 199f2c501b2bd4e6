//! What the README shows is what the program does.

mod support;

use support::{cascade, root};

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).expect("README.md")
}

#[test]
fn the_replay_shown_is_the_replay_run() {
    let output = cascade().args(["replay", "fixtures"]).output().expect("it runs");
    let wanted = format!("<!-- replay -->\n```text\n{}```\n<!-- /replay -->", String::from_utf8_lossy(&output.stdout));
    let readme = readme();
    let (start, end) = (readme.find("<!-- replay -->"), readme.find("<!-- /replay -->"));
    let (start, end) = (start.expect("its start"), end.expect("its end") + "<!-- /replay -->".len());
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(root().join("README.md"), format!("{}{wanted}{}", &readme[..start], &readme[end..]))
            .expect("written");
        return;
    }
    assert!(readme[start..end] == wanted, "run: UPDATE_README=1 cargo test --test readme");
}

#[test]
fn the_policy_shown_is_a_policy() {
    let readme = readme();
    let policy = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a policy");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine.yaml");
    std::fs::write(&path, policy).expect("written");
    let output = cascade().arg("check").arg(&path).env("OPENAI_API_KEY", "x").output().expect("it runs");
    assert!(output.status.success(), "{}", support::shown(&output));
}

#[tokio::test]
async fn the_curl_shown_gets_the_headers_shown() {
    let readme = readme();
    let body = readme.split("-d '").nth(1).and_then(|rest| rest.split("'\n").next()).expect("a body").to_owned();
    let served = support::Served::start(None);
    let url = format!("{}/v1/chat/completions", served.url);
    let response = support::client().post(url).body(body).send().await.expect("a response");
    let shown = readme.lines().filter(|line| line.starts_with("x-cascade-"));
    let shown: Vec<(&str, &str)> = shown.filter_map(|line| line.split_once(": ")).collect();
    assert_eq!(shown.len(), 4);
    for (name, value) in shown {
        assert_eq!(response.headers()[name], value, "{name}");
    }
}
