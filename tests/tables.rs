//! Exchanges as tables, read back by `DuckDB`.

#[path = "support/python.rs"]
mod python;
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::{Fake, Served, cascade, client, completion, response, root, shown, two_tiers};

/// What `DuckDB` says to a query over the tables in a folder, row by row.
fn ask(duckdb: &Path, folder: &Path, query: &str) -> Vec<Vec<Value>> {
    let program = r"
import duckdb, json, sys
folder, query = sys.argv[1:]
for table in ['exchanges', 'answers']:
    duckdb.sql(f'''create view {table} as select * from read_parquet('{folder}/{table}/**/*.parquet', hive_partitioning = true)''')
print(json.dumps(duckdb.sql(query).fetchall(), default=str))
";
    let python = duckdb.join("bin/python");
    let output = Command::new(python).args(["-c", program]).arg(folder).arg(query).output().expect("it runs");
    assert!(output.status.success(), "{query}: {}", shown(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn duckdb() -> Option<PathBuf> {
    python::environment("duckdb==2.0.0", "tables were not read back")
}

fn export(arguments: &[&str]) -> std::process::Output {
    cascade().arg("export").args(arguments).output().expect("it runs")
}

/// All lines of the project's fixtures.
fn fixtures() -> Vec<String> {
    let files = std::fs::read_dir(root().join("fixtures")).expect("fixtures").map(|entry| entry.expect("one").path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).collect();
    files.sort();
    let texts: Vec<_> = files.iter().map(|path| std::fs::read_to_string(path).expect("a file")).collect();
    texts.iter().flat_map(|text| text.lines().map(str::to_owned)).collect()
}

#[test]
fn tables_say_what_exchanges_say_and_give_them_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_str().expect("UTF-8");
    let mut told = Vec::new();
    for _ in 0..2 {
        let output = export(&["fixtures", "-o", out, "--began", "2026-11-06"]);
        assert!(output.status.success(), "{}", shown(&output));
        told.push(output.stdout);
    }
    assert_eq!(told[0], told[1], "written again they take their own place");
    let lines = fixtures();
    let parsed: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let answers = || parsed.iter().flat_map(|line| line["answers"].as_object().expect("answers"));
    let said = String::from_utf8(told.remove(0)).expect("UTF-8");
    assert!(
        said.starts_with(&format!("{} exchanges and {} answers of 10 recordings in ", lines.len(), answers().count())),
        "{said}"
    );

    let Some(duckdb) = duckdb() else { return };
    let ask = |query: &str| ask(&duckdb, folder.path(), query);
    let back = ask("select exchange from exchanges");
    let mut back: Vec<&str> = back.iter().map(|row| row[0].as_str().expect("a text")).collect();
    let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    back.sort_unstable();
    lines.sort_unstable();
    assert_eq!(back, lines);

    // As the docs have it.
    let found = folder.path().join("found.jsonl");
    let page = std::fs::read_to_string(root().join("docs/record.md")).expect("the docs");
    let copy = page.split("```sql\n").nth(2).and_then(|rest| rest.split("```").next()).expect("the second query");
    let copy =
        copy.replace("'warehouse/", &format!("'{out}/")).replace("invoices.jsonl", found.to_str().expect("UTF-8"));
    ask(&format!("{};", copy.trim_end().trim_end_matches(';').replace("%invoice%", "%17 + 26%")));
    let found = std::fs::read_to_string(found).expect("a file");
    assert!(found.lines().all(|line| lines.contains(&line)) && found.contains("arithmetic-001"), "{found}");

    // Sums by tier, of which each column has its own.
    let mut sums = BTreeMap::<&str, (u64, f64, f64, f64)>::new();
    for (tier, answer) in answers() {
        let of = |name: &str| answer[name].as_f64().unwrap_or(0.0);
        let sum = sums.entry(tier).or_default();
        *sum = (sum.0 + 1, sum.1 + of("cost_usd"), sum.2 + of("quality"), sum.3 + of("elapsed_ms"));
    }
    let rows = ask(
        "select tier, count(*), sum(cost_usd), sum(quality), sum(elapsed_ms) from answers group by tier order by tier",
    );
    assert_eq!(rows.len(), sums.len());
    for (row, (tier, sum)) in rows.iter().zip(sums) {
        let close = |at: usize, wanted: f64| (row[at].as_f64().unwrap_or(0.0) - wanted).abs() < 1e-6 * wanted.max(1.0);
        assert!(
            row[0] == tier && row[1] == sum.0 && close(2, sum.1) && close(3, sum.2) && close(4, sum.3),
            "{row:?} {sum:?}"
        );
    }
    // Every answer has its exchange, and texts are texts.
    let joined = ask(
        "select count(*), count(text), min(status), count(output_tokens) from answers join exchanges using (id, date)",
    );
    assert_eq!(joined[0][0], answers().count() as u64);
    assert!(joined[0][1].as_u64() > Some(100) && joined[0][2].as_u64().is_some(), "{joined:?}");
    let question = ask("select question, model, endpoint from exchanges where id = 'arithmetic-001'");
    assert_eq!(question, [["What is 17 + 26?", "cascade", "/v1/chat/completions"].map(Value::from).to_vec()]);
}

#[test]
fn a_recording_over_midnight_is_in_two_dates() {
    let folder = tempfile::tempdir().expect("a folder");
    let line = |id: &str, arrived: u64| {
        let request = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        let answer = json!({"status": 200, "body": completion("yes", &[])});
        json!({"id": id, "arrived_ms": arrived, "path": "/v1/chat/completions", "request": request, "answers": {"ada": answer}}).to_string()
    };
    let path = folder.path().join("20261106T235959Z-000.jsonl");
    std::fs::write(&path, format!("{}\n{}\n", line("before", 500), line("after", 1500))).expect("written");
    let out = folder.path().join("out");
    let output = export(&[path.to_str().expect("UTF-8"), "-o", out.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{}", shown(&output));
    for date in ["2026-11-06", "2026-11-07"] {
        assert!(out.join(format!("exchanges/date={date}/20261106T235959Z-000.parquet")).exists(), "{date}");
    }
    let Some(duckdb) = duckdb() else { return };
    let rows = ask(
        &duckdb,
        &out,
        "select id, date::varchar, (arrived_at at time zone 'UTC')::varchar from exchanges order by arrived_at",
    );
    let wanted = [["before", "2026-11-06", "2026-11-06 23:59:59.5"], ["after", "2026-11-07", "2026-11-07 00:00:00.5"]];
    assert_eq!(rows, wanted.map(|row| row.map(Value::from).to_vec()));
}

#[test]
fn what_cannot_become_tables_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let refused = |arguments: &[&str], wanted: &str| {
        let output = export(&[arguments, &["-o", &at("out")]].concat());
        assert!(!output.status.success() && shown(&output).contains(wanted), "{}", shown(&output));
    };
    refused(&["fixtures"], "arithmetic.jsonl does not say when it began");
    refused(&["fixtures", "--began", "yesterday"], "a date such as 2026-11-06");
    refused(&["fixtures", "--began", "2026-02-30"], "a date such as 2026-11-06");
    refused(&["fixtures/facts.jsonl", "fixtures/facts.jsonl", "--began", "2026-11-06"], "would be the same table");
    refused(&["-", "--began", "2026-11-06"], "standard input has no name");
    std::fs::write(at("broken.jsonl"), "{}\n").expect("written");
    refused(&[&at("broken.jsonl"), "--began", "2026-11-06"], "broken.jsonl:1: missing field");
    std::fs::write(at("later.jsonl"), format!("{}\n{{}}\n", fixtures()[0])).expect("written");
    refused(&[&at("later.jsonl"), "--began", "2026-11-06"], "later.jsonl:2: missing field");
    let left = std::fs::read_dir(at("out/exchanges/date=2026-11-06")).expect("begun").count();
    assert_eq!(left, 0, "nothing half done");
    let skipped = export(&[&at("broken.jsonl"), "--began", "2026-11-06", "--skip-broken", "-o", &at("out")]);
    assert!(skipped.status.success() && shown(&skipped).contains("1 broken lines skipped"), "{}", shown(&skipped));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_writes_tables_of_what_it_records() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start(|_| response(200, "application/json", completion("yes", &[-0.01]).to_string())).await;
    let policy = two_tiers(folder.path(), &fake.base_url, "");
    support::append(&policy, "record: { to: recordings, tables: warehouse, rotate: 4KiB }\n");
    let served = Served::start(Some(&policy));
    for n in 0..20 {
        let body = json!({"model": "two", "messages": [{"role": "user", "content": format!("question {n}")}]});
        let asked = client().post(format!("{}/v1/chat/completions", served.url)).body(body.to_string()).send().await;
        assert_eq!(asked.expect("a response").status(), 200);
    }
    let log = served.stop();
    assert!(!log.contains("no tables"), "{log}");
    let recordings = std::fs::read_dir(folder.path().join("recordings")).expect("recordings").count();
    assert!(recordings > 1, "{recordings}");
    // What a gateway that was killed had no time for the next one makes up for.
    std::fs::remove_dir_all(folder.path().join("warehouse")).expect("removed");
    Served::start(Some(&policy)).stop();
    let Some(duckdb) = duckdb() else { return };
    let rows = ask(
        &duckdb,
        &folder.path().join("warehouse"),
        "select count(distinct question), count(distinct exchanges.id), count(distinct tier) from exchanges join answers using (id)",
    );
    assert_eq!(rows, [[20.into(), 20.into(), 1.into()].to_vec()] as [Vec<Value>; 1]);
}
