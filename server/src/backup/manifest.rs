//! What a snapshot is made of.

use std::io;

use rockdove_mail::date::Civil;
use serde::{Deserialize, Serialize};

/// Version of the manifest.
pub(super) const FORMAT: u32 = 1;
/// Where the configuration lies in a snapshot, and in a data folder that was restored: to look at, never in force.
pub(super) const CONFIGURATION: &str = "restored-configuration.toml";

/// A snapshot: a data folder at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    format: u32,
    /// Its name: the moment, in UTC.
    pub name: String,
    /// The same in seconds since 1970.
    pub taken_unix_s: i64,
    /// Version of the program that took it.
    pub version: String,
    /// The server, as its configuration names it.
    pub hostname: String,
    /// Every file.
    pub files: Vec<FileEntry>,
}

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path in the data folder.
    pub path: String,
    /// Octets.
    pub size_bytes: u64,
    /// BLAKE3 of the content, and the name of the object that has it.
    pub object: String,
    /// For a file that never changes: tells it from every other without reading it whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
}

/// A manifest as it is written: with the BLAKE3 of its JSON.
#[derive(Serialize, Deserialize)]
struct Sealed {
    manifest: Manifest,
    blake3: String,
}

impl Manifest {
    pub(super) fn new(name: String, taken_unix_s: i64, hostname: &str, files: Vec<FileEntry>) -> Self {
        let (version, hostname) = (env!("CARGO_PKG_VERSION").to_owned(), hostname.to_owned());
        Self { format: FORMAT, name, taken_unix_s, version, hostname, files }
    }

    /// Octets of all its files.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }

    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let blake3 = blake3::hash(&serde_json::to_vec(self)?).to_hex().to_string();
        let mut text = serde_json::to_vec_pretty(&Sealed { manifest: self.clone(), blake3 })?;
        text.push(b'\n');
        Ok(text)
    }

    /// The manifest of that name, when it is whole.
    pub(super) fn decode(name: &str, text: &[u8]) -> Result<Self, String> {
        let wrong = |what: String| format!("snapshot {name} is damaged: {what}");
        let sealed: Sealed = serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))?;
        let Sealed { manifest, blake3 } = sealed;
        if manifest.format != FORMAT {
            return Err(format!("snapshot {name} was made by a newer version of Rockdove, {}", manifest.version));
        }
        let found = serde_json::to_vec(&manifest).map_err(|error| wrong(error.to_string()))?;
        if blake3::hash(&found).to_hex().as_str() != blake3 {
            return Err(wrong("it is not what was written".to_owned()));
        }
        if manifest.name != name {
            return Err(wrong(format!("it says that its name is {}", manifest.name)));
        }
        match manifest.files.iter().find(|file| !inside(&file.path) || !is_object(&file.object)) {
            Some(file) => Err(wrong(format!("{} has no place in a data folder", file.path))),
            None => Ok(manifest),
        }
    }
}

/// Whether a path stays in the folder it is relative to.
fn inside(path: &str) -> bool {
    !path.is_empty()
        && path.split('/').all(|step| !step.is_empty() && step != "." && step != ".." && !step.contains('\0'))
}

/// Whether this can name an object.
pub(super) fn is_object(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'))
}

/// The name of a snapshot taken at a moment: it sorts by time.
pub(super) fn name_of(unix_s: i64) -> String {
    let (day, second) = (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400));
    let Civil { year, month, day } = Civil::from_days_since_epoch(i32::try_from(day).unwrap_or(i32::MAX));
    format!("{year:04}-{month:02}-{day:02}T{:02}{:02}{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(path: &str) -> Manifest {
        let object = blake3::hash(b"x").to_hex().to_string();
        let file = FileEntry { path: path.to_owned(), size_bytes: 1, object, mark: None };
        Manifest::new(name_of(1_764_076_058), 1_764_076_058, "mail.example.org", vec![file])
    }

    #[test]
    fn manifests_are_read_as_written_and_damage_is_noticed() {
        let written = manifest("store/CURRENT");
        assert_eq!(written.name, "2025-11-25T130738Z");
        let text = written.encode().expect("JSON");
        assert_eq!(Manifest::decode(&written.name, &text), Ok(written.clone()));
        assert!(Manifest::decode("other", &text).is_err());
        let text = String::from_utf8(text).expect("text");
        for (from, to) in [("CURRENT", "CURRENU"), ("\"size_bytes\": 1", "\"size_bytes\": 2"), ("\"\n}\n", "\"\n")] {
            assert!(text.contains(from));
            assert!(Manifest::decode(&written.name, text.replace(from, to).as_bytes()).is_err(), "{from}");
        }
    }

    #[test]
    fn a_manifest_cannot_lead_out_of_the_folder() {
        for path in ["../x", "/etc/passwd", "store/../../x", "", "a//b", "./a"] {
            let manifest = manifest(path);
            assert!(Manifest::decode(&manifest.name, &manifest.encode().expect("JSON")).is_err(), "{path}");
        }
    }
}
