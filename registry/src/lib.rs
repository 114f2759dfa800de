//! Registries and archives: the ways in and out of the local store.
//!
//! [`Client`] talks to registries (distribution-spec, and Docker's schema 2 and tokens), blocking;
//! the async engine inside is private and starts at the first request.
//! [`serve`] is the other side: the store as a registry.

mod archive;
mod auth;
mod blob;
mod challenge;
mod client;
mod credentials;
mod download;
mod error;
mod http;
mod location;
mod manage;
mod pull;
mod push;
mod redirect;
mod registries;
mod retry;
mod secret;
pub mod serve;
mod sources;
mod upload;

pub use archive::{
    Archive, ArchiveImage, ArchivedImage, Export, write_docker_archive, write_layout,
    write_oci_archive,
};
pub use challenge::{Challenge, parse_challenges};
pub use client::{Client, ClientOptions, TlsPolicy};
pub use credentials::{Credential, CredentialEnvironment, Stored};
pub use download::{Download, Downloaded, DownloadedFile, Downloader};
pub use error::{Cause, Error, NetworkFailure, Result, ServerMessage};
pub use http::{Proxies, Timeouts};
pub use location::Location;
pub use push::PushReport;
pub use registries::{Registries, RegistriesEnvironment};
pub use retry::RetryPolicy;
pub use secret::{SafeUrl, Secret};
pub use sources::BlobSources;
