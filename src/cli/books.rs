//! What was spent with clients' keys, kept in a file beside theirs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;

use super::keys;
use crate::clock::SystemClock;
use crate::gateway::{AllSpent, Keyring};
use crate::keys::KeyFile;
use crate::policy::Policy;
use crate::shared::Shared;

/// The keyring in force, and what of it is in the file.
#[derive(Clone, Default)]
pub(super) struct Books(Arc<Mutex<Open>>);

/// What other replicas know: keys that are in no file, and what was spent with any.
#[derive(Clone, Default)]
pub(super) struct Elsewhere {
    pub shared: Option<Arc<Shared>>,
    pub keys: KeyFile,
}

#[derive(Default)]
struct Open {
    path: PathBuf,
    keyring: Option<Arc<Keyring<SystemClock>>>,
    saved: AllSpent,
}

impl Books {
    /// Opens the keyring of a policy in this folder, with the keys that are elsewhere;
    /// none where it asks nobody for a key.
    ///
    /// # Errors
    /// Where what was spent before cannot be read.
    pub fn open(
        &self,
        policy: &Policy,
        folder: &Path,
        clock: SystemClock,
        elsewhere: &Elsewhere,
    ) -> anyhow::Result<Option<Arc<Keyring<SystemClock>>>> {
        let Some((path, file)) = policy.keys.as_ref().and_then(|at| Some((&at.path, at.read.as_ref()?))) else {
            return Ok(None);
        };
        self.save();
        let path = keys::spent_beside(&folder.join(path));
        let spent: AllSpent = match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("cannot read {}", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => AllSpent::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let mut file = KeyFile::clone(file);
        // There a key can be taken back that a file still has.
        file.keys.retain(|key| elsewhere.keys.keys.iter().all(|other| other.id != key.id));
        file.keys.extend(elsewhere.keys.keys.iter().cloned());
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let keyring = Arc::new(Keyring::new(&file, &spent, &clock, open.keyring.as_deref(), elsewhere.shared.as_ref()));
        *open = Open { path, keyring: Some(keyring.clone()), saved: spent };
        Ok(Some(keyring))
    }

    /// Writes what was spent, where that is more than is written.
    pub fn save(&self) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(keyring) = &open.keyring else { return };
        // Of a key that is not known now it may be asked later.
        let mut spent = open.saved.clone();
        spent.extend(keyring.spent());
        if spent == open.saved {
            return;
        }
        let text = serde_json::to_string_pretty(&spent).unwrap_or_default();
        match keys::write(&open.path, &text) {
            Ok(()) => open.saved = spent,
            Err(error) => tracing::error!("what was spent with keys is not kept: {error:#}"),
        }
    }
}
