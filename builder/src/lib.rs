//! From a Dockerfile to an image: the language, the plan, the cache and the steps.
//!
//! The crate starts no process and opens no connection itself. What it needs of the outside comes
//! in through traits: images from an [`ImageSource`](wythe_layers::image::ImageSource), processes
//! from an [`Executor`], files of other machines from a [`RemoteSource`].

mod build;
mod cache;
mod chmod;
mod context;
mod copy;
mod error;
mod executor;
mod git;
pub mod glob;
pub mod ignore;
pub mod parse;
mod path;
mod plan;
mod remote;
mod request;
mod result;
mod view;

pub use build::Builder;
pub use cache::cached_stacks;
pub use copy::decompress;
pub use error::{BoxError, Error, Result, StepPlace};
pub use executor::{
    Access, Cancel, Executor, Exit, ExitStatus, MountSource, Network, OutputSink, OutputStream,
    Process, ProcessMount, Security,
};
pub use git::{
    GitAuthorization, GitCommit, GitPlace, GitPlaceError, GitRepository, GitTimes, is_commit,
};
pub use plan::{check_plan, platform_args};
pub use remote::{
    CheckedOut, GitCheckout, GitRemote, RemoteAnswer, RemoteFile, RemoteRequest, RemoteSource,
    http_authorization,
};
pub use request::{
    Agent, BuildRequest, CachePolicy, ContextSource, DOCKERFILE_NAMES, ImageAt, InputFile,
    NamedContext, PullPolicy, Secret, context_name,
};
pub use result::{BuildResult, StepOutcome, StepReport};
