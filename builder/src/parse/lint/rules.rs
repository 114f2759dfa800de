//! The rules as data.

/// One rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// The name used in `# check=skip=` and in reports.
    pub name: &'static str,
    /// What it asks for, in a sentence.
    pub description: &'static str,
    /// The last part of the address of its page; empty if it has none.
    pub page: &'static str,
    /// Off unless asked for.
    pub experimental: bool,
}

impl Rule {
    /// The address of the page that explains the rule; empty if there is none.
    #[must_use]
    pub fn url(&self) -> String {
        if self.page.is_empty() {
            return String::new();
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{}/", self.page)
    }
}

const fn stable(name: &'static str, page: &'static str, description: &'static str) -> Rule {
    Rule {
        name,
        description,
        page,
        experimental: false,
    }
}

/// All rules. Names, descriptions and pages are BuildKit's, so that tools which know one know both.
pub static RULES: [Rule; 22] = [
    stable(
        "StageNameCasing",
        "stage-name-casing",
        "Stage names should be lowercase",
    ),
    stable(
        "FromAsCasing",
        "from-as-casing",
        "The 'as' keyword should match the case of the 'from' keyword",
    ),
    stable(
        "NoEmptyContinuation",
        "no-empty-continuation",
        "Empty continuation lines will become errors in a future release",
    ),
    stable(
        "ConsistentInstructionCasing",
        "consistent-instruction-casing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
    ),
    stable(
        "DuplicateStageName",
        "duplicate-stage-name",
        "Stage names should be unique",
    ),
    stable(
        "ReservedStageName",
        "reserved-stage-name",
        "Reserved words should not be used as stage names",
    ),
    stable(
        "JSONArgsRecommended",
        "json-args-recommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    ),
    stable(
        "MaintainerDeprecated",
        "maintainer-deprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    ),
    stable(
        "UndefinedArgInFrom",
        "undefined-arg-in-from",
        "FROM command must use declared ARGs",
    ),
    stable(
        "WorkdirRelativePath",
        "workdir-relative-path",
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the \
         base image changes",
    ),
    stable(
        "UndefinedVar",
        "undefined-var",
        "Variables should be defined before their use",
    ),
    stable(
        "MultipleInstructionsDisallowed",
        "multiple-instructions-disallowed",
        "Multiple instructions of the same type should not be used in the same stage",
    ),
    stable(
        "LegacyKeyValueFormat",
        "legacy-key-value-format",
        "Legacy key/value format with whitespace separator should not be used",
    ),
    stable(
        "InvalidBaseImagePlatform",
        "",
        "Base image platform does not match expected target platform",
    ),
    stable(
        "RedundantTargetPlatform",
        "redundant-target-platform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    ),
    stable(
        "SecretsUsedInArgOrEnv",
        "secrets-used-in-arg-or-env",
        "Sensitive data should not be used in the ARG or ENV commands",
    ),
    stable(
        "InvalidDefaultArgInFrom",
        "invalid-default-arg-in-from",
        "Default value for global ARG results in an empty or invalid base image name",
    ),
    stable(
        "FromPlatformFlagConstDisallowed",
        "from-platform-flag-const-disallowed",
        "FROM --platform flag should not use a constant value",
    ),
    stable(
        "CopyIgnoredFile",
        "copy-ignored-file",
        "Attempting to Copy file that is excluded by .dockerignore",
    ),
    Rule {
        name: "InvalidDefinitionDescription",
        description: "Comment for build stage or argument should follow the format: `# <arg/stage name> \
                      <description>`. If this is not intended to be a description comment, add an empty line or \
                      comment between the instruction and the comment.",
        page: "invalid-definition-description",
        experimental: true,
    },
    stable(
        "ExposeProtoCasing",
        "expose-proto-casing",
        "Protocol in EXPOSE instruction should be lowercase",
    ),
    stable(
        "ExposeInvalidFormat",
        "expose-invalid-format",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a \
         future release",
    ),
];

/// The rule of this name.
#[must_use]
pub fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}
