//! A Redis of the test's own.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use prompt_cascade::clock::{Clock as _, SystemClock};

/// Debian's redis-server on a free port, which keeps nothing on disk.
pub struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    /// None where it is absent, which is said.
    pub async fn start() -> Option<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
        let Ok(child) = spawn(port) else {
            eprintln!("SKIPPED: redis-server (Debian's package of that name) is absent, so nothing was shared");
            return None;
        };
        let redis = Self { child, port };
        redis.wait().await;
        Some(redis)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/3", self.port)
    }

    /// How many of its keys match.
    pub fn count(&self, pattern: &str) -> usize {
        let said = Command::new("redis-cli").args(["-u", &self.url(), "KEYS", pattern]).output().expect("redis-cli");
        String::from_utf8(said.stdout).expect("UTF-8").lines().filter(|line| !line.is_empty()).count()
    }

    /// Sets something while it runs.
    pub fn configure(&self, what: &str, value: &str) {
        let set = Command::new("redis-cli").args(["-u", &self.url(), "CONFIG", "SET", what, value]).output();
        assert!(set.expect("redis-cli").status.success());
    }

    /// Kills it where it stands; what it held is lost.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, empty.
    pub async fn restart(&mut self) {
        self.child = spawn(self.port).expect("as before");
        self.wait().await;
    }

    /// Stops it without ending it: connections stay and nobody answers.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill").success());
    }

    async fn wait(&self) {
        let clock = SystemClock::start();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(clock.now() < Duration::from_secs(10), "redis-server does not listen");
            clock.sleep(Duration::from_millis(20)).await;
        }
    }
}

fn spawn(port: u16) -> std::io::Result<Child> {
    let arguments = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    Command::new("redis-server").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-CONT", &self.child.id().to_string()]).status();
        self.kill();
    }
}
