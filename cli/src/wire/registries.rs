//! The registry client, as flags, environment and configuration files say.

use std::path::PathBuf;

use anyhow::Context as _;
use wythe_layers::store::Store;
use wythe_registry::{
    BlobSources, Client, ClientOptions, Credential, CredentialEnvironment, Downloader, Location,
    Proxies, Registries, RegistriesEnvironment, Stored, TlsPolicy,
};

use crate::settings::Settings;

use super::git::Git;
use super::remote::Remote;

/// The registry client as flags, environment and configuration files say.
pub(crate) fn client(settings: &Settings, store: &Store) -> anyhow::Result<Client> {
    Client::new(options(settings, Some(store))?).context("cannot set up the registry client")
}

/// The same, with a credential that is not (yet) in any file.
pub(crate) fn client_as(settings: &Settings, credential: Credential) -> anyhow::Result<Client> {
    let options = ClientOptions {
        credential: Some(credential),
        ..options(settings, None)?
    };
    Client::new(options).context("cannot set up the registry client")
}

/// What gets files of other machines.
pub(crate) fn remote(settings: &Settings) -> anyhow::Result<Remote> {
    let options = options(settings, None)?;
    let env = &settings.env;
    let mut environment = Vec::new();
    for (name, value) in [
        ("PATH", env.path("PATH").map(Into::into)),
        ("http_proxy", options.proxies.http.clone().map(Into::into)),
        ("https_proxy", options.proxies.https.clone().map(Into::into)),
        ("no_proxy", options.proxies.none_for.clone().map(Into::into)),
    ] {
        environment.extend(value.map(|value: std::ffi::OsString| (name, value)));
    }
    let git = Git::new(environment, env.home().as_deref(), scratch(settings));
    Ok(Remote::new(Downloader::new(options), git))
}

fn options(settings: &Settings, store: Option<&Store>) -> anyhow::Result<ClientOptions> {
    let env = &settings.env;
    let registries = Registries::read(&RegistriesEnvironment {
        registries_conf: env.path("CONTAINERS_REGISTRIES_CONF"),
        home: env.home(),
        system: Some("/etc/containers".into()),
    })?;
    let lower = |name: &str| {
        env.user_text(&name.to_ascii_lowercase())
            .or_else(|| env.text(name))
    };
    let mut certificate_directories = vec![
        "/etc/containers/certs.d".into(),
        "/etc/docker/certs.d".into(),
    ];
    certificate_directories.extend(
        env.config_home()
            .map(|home| home.join("containers/certs.d")),
    );
    Ok(ClientOptions {
        environment: credentials(settings),
        registries,
        tls: match settings.tls_verify {
            Some(false) => TlsPolicy::Insecure,
            _ => TlsPolicy::Configured,
        },
        certificate_directories,
        proxies: Proxies {
            http: lower("HTTP_PROXY").or_else(|| lower("ALL_PROXY")),
            https: lower("HTTPS_PROXY").or_else(|| lower("ALL_PROXY")),
            none_for: lower("NO_PROXY"),
        },
        sources: store.map(BlobSources::of),
        ..ClientOptions::default()
    })
}

/// Where credentials are looked for and kept.
pub(crate) fn credentials(settings: &Settings) -> CredentialEnvironment {
    let env = &settings.env;
    CredentialEnvironment {
        registry_auth_file: env.path("REGISTRY_AUTH_FILE"),
        docker_config: env.path("DOCKER_CONFIG"),
        xdg_runtime_dir: env.path("XDG_RUNTIME_DIR"),
        home: env.home(),
        path: env.path("PATH").map(Into::into),
    }
}

/// Where a credential is kept, for people.
pub(crate) fn place(stored: &Stored) -> String {
    match stored {
        Stored::File(path) => path.display().to_string(),
        Stored::Helper(program) => format!("the helper {program}"),
        _ => "the credentials store".to_owned(),
    }
}

/// The archive or layout that a name on the command line means; `None` for a registry's image.
pub(crate) fn archive(text: &str) -> anyhow::Result<Option<Location>> {
    Ok(match text.parse::<Location>()? {
        Location::Registry(_) => None,
        location => Some(location),
    })
}

/// Where input from a pipe is kept while it is read.
pub(crate) fn scratch(settings: &Settings) -> PathBuf {
    settings
        .env
        .path("TMPDIR")
        .unwrap_or_else(|| "/var/tmp".into())
}
