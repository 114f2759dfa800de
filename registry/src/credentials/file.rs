//! One credentials file: Docker's `config.json` or containers' `auth.json`; they share a format.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use super::{Credential, Stored, candidates, helper, normal_name};
use crate::error::{Error, Result};
use crate::secret::Secret;

/// Largest credentials file, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// The key under which Docker keeps Docker Hub.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// A parsed credentials file.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuthFile {
    #[serde(default)]
    auths: Option<BTreeMap<String, Entry>>,
    #[serde(default)]
    cred_helpers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Default, serde::Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry(…)")
    }
}

impl AuthFile {
    /// Reads a file; `None` when it is not there.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        let Some(bytes) = read_bytes(path)? else {
            return Ok(None);
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Some(Self::default()));
        }
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| Error::Config {
                path: path.to_owned(),
                source: Box::new(source),
            })
    }

    /// The credential for a name, by the longest key that covers it.
    pub(super) fn find(&self, name: &str, path: Option<&OsStr>) -> Result<Option<Credential>> {
        let name = normal_name(name);
        for candidate in candidates(&name) {
            if let Some(credential) = self.find_exactly(candidate, path)? {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }

    fn find_exactly(&self, name: &str, path: Option<&OsStr>) -> Result<Option<Credential>> {
        if let Some((server, helper)) = self.helper_for(name) {
            return helper::get(helper, &server, path);
        }
        let entries = self.auths.iter().flatten();
        for (key, entry) in entries.filter(|(key, _)| normal_name(key) == name) {
            if let Some(credential) = credential(key, entry)? {
                return Ok(Some(credential));
            }
        }
        // A store keeps registries, not paths within them.
        match self
            .creds_store
            .as_deref()
            .filter(|store| !store.is_empty())
        {
            Some(store) if !name.contains('/') => helper::get(store, &server_key(name), path),
            _ => Ok(None),
        }
    }

    /// The helper of exactly this name, and the name by which it knows it.
    fn helper_for(&self, name: &str) -> Option<(String, &str)> {
        let mut helpers = self.cred_helpers.iter().flatten();
        helpers
            .find(|(key, helper)| !helper.is_empty() && normal_name(key) == name)
            .map(|(key, helper)| (key.clone(), helper.as_str()))
    }
}

fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(Error::io("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::TooLarge {
            what: path.display().to_string(),
            limit: MAX_FILE_BYTES,
        });
    }
    Ok(Some(bytes))
}

fn credential(key: &str, entry: &Entry) -> Result<Option<Credential>> {
    let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    if let Some(token) = given(&entry.registrytoken) {
        return Ok(Some(Credential::RegistryToken(Secret::new(token))));
    }
    if let Some(token) = given(&entry.identitytoken) {
        return Ok(Some(Credential::IdentityToken(Secret::new(token))));
    }
    if let Some(auth) = given(&entry.auth) {
        let pair = decode_pair(&auth).ok_or_else(|| Error::Config {
            path: key.into(),
            source: "its \"auth\" is not the base64 of USER:PASSWORD".into(),
        })?;
        return Ok(Some(pair));
    }
    Ok(given(&entry.username).map(|username| Credential::Basic {
        username,
        password: Secret::new(entry.password.clone().unwrap_or_default()),
    }))
}

fn decode_pair(auth: &str) -> Option<Credential> {
    let engine = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let bytes = engine.decode(auth.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    Some(Credential::Basic {
        username: username.to_owned(),
        // Old Docker versions padded with NUL.
        password: Secret::new(password.trim_end_matches('\0')),
    })
}

/// The key of a name in `auths` and with helpers.
fn server_key(name: &str) -> String {
    if name == "docker.io" {
        DOCKER_HUB_KEY.to_owned()
    } else {
        name.to_owned()
    }
}

/// Keeps a credential: with the file's helper for it, else in the file itself.
pub(super) fn store(
    path: &Path,
    name: &str,
    credential: &Credential,
    search: Option<&OsStr>,
) -> Result<Stored> {
    let name = normal_name(name);
    let file = AuthFile::read(path)?.unwrap_or_default();
    let keeper = file.helper_for(&name).or_else(|| {
        let store = file
            .creds_store
            .as_deref()
            .filter(|store| !store.is_empty())?;
        Some((server_key(&name), store))
    });
    if let Some((server, helper)) = keeper {
        helper::store(helper, &server, credential, search)?;
        // Docker lists the registry beside it, empty, so that tools see who is logged in.
        rewrite(path, |auths| {
            auths.insert(server_key(&name), Value::Object(Map::new()));
        })?;
        return Ok(Stored::Helper(helper.to_owned()));
    }
    rewrite(path, |auths| {
        auths.retain(|key, _| normal_name(key) != name);
        auths.insert(server_key(&name), entry_of(credential));
    })?;
    Ok(Stored::File(path.to_owned()))
}

fn entry_of(credential: &Credential) -> Value {
    match credential {
        Credential::Basic { username, password } => {
            let pair = format!("{username}:{}", password.expose());
            let auth = base64::engine::general_purpose::STANDARD.encode(pair);
            serde_json::json!({ "auth": auth })
        }
        Credential::IdentityToken(token) => {
            serde_json::json!({ "identitytoken": token.expose() })
        }
        Credential::RegistryToken(token) => {
            serde_json::json!({ "registrytoken": token.expose() })
        }
    }
}

/// Forgets a credential; where it was.
pub(super) fn erase(path: &Path, name: &str, search: Option<&OsStr>) -> Result<Vec<Stored>> {
    let name = normal_name(name);
    let Some(file) = AuthFile::read(path)? else {
        return Ok(Vec::new());
    };
    let mut places = Vec::new();
    let keeper = file.helper_for(&name).or_else(|| {
        let store = file
            .creds_store
            .as_deref()
            .filter(|store| !store.is_empty())?;
        Some((server_key(&name), store))
    });
    if let Some((server, helper)) = keeper
        && helper::erase(helper, &server, search)?
    {
        places.push(Stored::Helper(helper.to_owned()));
    }
    let listed = |key: &String| normal_name(key) == name;
    if file.auths.iter().flatten().any(|(key, _)| listed(key)) {
        rewrite(path, |auths| auths.retain(|key, _| !listed(key)))?;
        if places.is_empty() {
            places.push(Stored::File(path.to_owned()));
        }
    }
    Ok(places)
}

/// Changes `auths` and keeps everything else as it was; readable to its owner only, all or nothing.
fn rewrite(path: &Path, change: impl FnOnce(&mut Map<String, Value>)) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let invalid = |source: serde_json::Error| Error::Config {
        path: path.to_owned(),
        source: Box::new(source),
    };
    // A link stays a link: home directories are often assembled from links.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut document: Map<String, Value> = match read_bytes(path)? {
        Some(bytes) if !bytes.iter().all(u8::is_ascii_whitespace) => {
            serde_json::from_slice(&bytes).map_err(invalid)?
        }
        _ => Map::new(),
    };
    let auths = document
        .entry("auths")
        .or_insert_with(|| Value::Object(Map::new()));
    if auths.is_null() {
        *auths = Value::Object(Map::new());
    }
    let Value::Object(auths) = auths else {
        return Err(Error::Config {
            path: path.to_owned(),
            source: "\"auths\" is not an object".into(),
        });
    };
    change(auths);
    let mut bytes = serde_json::to_vec_pretty(&document).map_err(invalid)?;
    bytes.push(b'\n');
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(Error::io("create", directory))?;
    let mut temporary = tempfile::Builder::new()
        .prefix(".auth")
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(directory)
        .map_err(Error::io("create a file in", directory))?;
    temporary
        .write_all(&bytes)
        .and_then(|()| temporary.as_file().sync_all())
        .map_err(Error::io("write", temporary.path()))?;
    temporary
        .persist(path)
        .map_err(|error| Error::io("replace", path)(error.error))?;
    Ok(())
}
