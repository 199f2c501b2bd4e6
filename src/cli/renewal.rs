//! A certificate that is read again when its files change, as they do when it is renewed.

use std::path::{Path, PathBuf};

use tokio::task::block_in_place;

use crate::clock::Clock;
use crate::gateway::{BadCertificate, Certificate};

use super::serving::EVERY;

/// A certificate and where it came from.
pub(super) struct Renewed {
    pub in_force: Certificate,
    chain: PathBuf,
    key: PathBuf,
    content: Content,
}

/// What was in both files; none where one could not be read.
type Content = (Option<Vec<u8>>, Option<Vec<u8>>);

fn content(chain: &Path, key: &Path) -> Content {
    (std::fs::read(chain).ok(), std::fs::read(key).ok())
}

impl Renewed {
    /// Reads it.
    ///
    /// # Errors
    /// Where it cannot be used.
    pub fn read(chain: PathBuf, key: PathBuf) -> Result<Self, BadCertificate> {
        let content = content(&chain, &key);
        Ok(Self { in_force: Certificate::read(&chain, &key)?, chain, key, content })
    }

    /// Looks at its files for good. One that cannot be used leaves the one before.
    pub async fn keep_up(mut self, clock: impl Clock) {
        loop {
            clock.sleep(EVERY).await;
            let content = block_in_place(|| content(&self.chain, &self.key));
            if content == self.content {
                continue;
            }
            self.content = content;
            match self.in_force.replace(&self.chain, &self.key) {
                Ok(()) => tracing::warn!("the certificate was read again and is in force"),
                Err(error) => tracing::error!("the certificate was read again; the one before stays: {error}"),
            }
        }
    }
}
