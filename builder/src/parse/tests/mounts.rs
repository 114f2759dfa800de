//! `RUN --mount`: type × option. Sources as in [`flags`](super::flags); `run---mount` is left out before
//! `type…`.

use super::*;

/// What an option does to each type, in the order of [`TYPES`]: `.` nothing is wrong, else the message,
/// `@` standing for the type.
const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

const SHARING: &str = "invalid cache sharing set for @ mount";
const NO_SHARING: &str = "secret mount should not define sharing";
const NO_MODE: &str = "mode not allowed for \"@\" type mounts";
const NO_UID: &str = "uid not allowed for \"@\" type mounts";
const NO_GID: &str = "gid not allowed for \"@\" type mounts";
const NO_SIZE: &str = "unexpected key 'size' for mount type '@'";
const NO_REQUIRED: &str = "unexpected key 'required' for mount type '@'";
const NO_SOURCE: &str = "ssh does not support source";
const BOTH: &str = "both source and id can't be set";
const NO_FROM: &str = "secret mount should not have a from";

#[rustfmt::skip]
const OPTIONS: &[(&str, [&str; 5], &str)] = &[
    ("target=/n", [".", ".", ".", ".", "."], "all types: mount path"),
    ("dst=/n", [".", ".", ".", ".", "."], "all types: mount path"),
    ("destination=/n", [".", ".", ".", ".", "."], "all types: mount path"),
    ("TARGET=/n", [".", ".", ".", ".", "."], "parser: names in any case"),
    ("target=", [".", ".", ".", ".", "."], "parser: empty is as if it was not given"),
    ("source=a", [".", ".", ".", BOTH, NO_SOURCE], "typebind, typecache: path in the from; secret: the id; ssh has none"),
    ("src=a", [".", ".", ".", BOTH, NO_SOURCE], "parser: short for source"),
    ("from=f", [".", ".", ".", NO_FROM, "."], "typebind, typecache: stage, context or image"),
    ("ro", [".", ".", ".", ".", "."], "typecache: read-only if set"),
    ("readonly=true", [".", ".", ".", ".", "."], "typecache: read-only if set"),
    ("rw", [".", ".", ".", ".", "."], "typebind: allow writes"),
    ("readwrite=false", [".", ".", ".", ".", "."], "typebind: allow writes"),
    ("ro=yes", ["invalid value for ro: yes"; 5], "parser: Go's booleans"),
    ("rw=", ["invalid value for rw: "; 5], "parser: Go's booleans"),
    ("id=z", [".", ".", ".", ".", "."], "typecache, typesecret, typessh: what it is known by"),
    ("sharing=shared", [SHARING, ".", SHARING, NO_SHARING, SHARING], "typecache: one of three"),
    ("sharing=private", [SHARING, ".", SHARING, NO_SHARING, SHARING], "typecache: one of three"),
    ("sharing=LOCKED", [SHARING, ".", SHARING, NO_SHARING, SHARING], "typecache: one of three; parser: in any case"),
    ("sharing=none", ["unsupported sharing value \"none\""; 5], "typecache: one of three"),
    ("sharing=", ["unsupported sharing value \"\""; 5], "typecache: one of three"),
    ("size=1m", [NO_SIZE, NO_SIZE, ".", NO_SIZE, NO_SIZE], "typetmpfs: upper limit"),
    ("size=1.5KiB", [NO_SIZE, NO_SIZE, ".", NO_SIZE, NO_SIZE], "typetmpfs: upper limit"),
    ("size=1e3", [NO_SIZE, NO_SIZE, ".", NO_SIZE, NO_SIZE], "parser: Go's numbers"),
    ("size=0", [NO_SIZE, NO_SIZE, ".", NO_SIZE, NO_SIZE], "parser: 0 is no limit"),
    ("size=99999999999999999999", [NO_SIZE, NO_SIZE, ".", NO_SIZE, NO_SIZE], "parser: beyond all numbers is no limit"),
    ("size=", [NO_SIZE, NO_SIZE, "invalid value for size: ", NO_SIZE, NO_SIZE], "parser: a size"),
    ("size=1x", [NO_SIZE, NO_SIZE, "invalid value for size: 1x", NO_SIZE, NO_SIZE], "parser: units up to p"),
    ("size=-1", [NO_SIZE, NO_SIZE, "invalid value for size: -1", NO_SIZE, NO_SIZE], "parser: not negative"),
    ("mode=0700", [NO_MODE, ".", NO_MODE, ".", "."], "typecache, typesecret, typessh: octal"),
    ("mode=37777777777", [NO_MODE, ".", NO_MODE, ".", "."], "parser: 32 bits"),
    ("mode=40000000000", ["invalid value 40000000000 for mode"; 5], "parser: 32 bits"),
    ("mode=8", ["invalid value 8 for mode"; 5], "typecache: octal"),
    ("mode=0o7", ["invalid value 0o7 for mode"; 5], "typecache: octal"),
    ("mode=", ["invalid value  for mode"; 5], "typecache: octal"),
    ("uid=1", [NO_UID, ".", NO_UID, ".", "."], "typecache, typesecret, typessh: a number"),
    ("uid=4294967295", [NO_UID, ".", NO_UID, ".", "."], "parser: 32 bits"),
    ("uid=4294967296", ["invalid value 4294967296 for uid"; 5], "parser: 32 bits"),
    ("uid=+1", ["invalid value +1 for uid"; 5], "parser: digits"),
    ("uid=root", ["invalid value root for uid"; 5], "typecache: a number"),
    ("gid=1", [NO_GID, ".", NO_GID, ".", "."], "typecache, typesecret, typessh: a number"),
    ("gid=-1", ["invalid value -1 for gid"; 5], "typecache: a number"),
    ("required", [NO_REQUIRED, NO_REQUIRED, NO_REQUIRED, ".", "."], "typesecret, typessh: fails without it"),
    ("required=false", [NO_REQUIRED, NO_REQUIRED, NO_REQUIRED, ".", "."], "typesecret, typessh: default"),
    ("required=maybe", [NO_REQUIRED, NO_REQUIRED, NO_REQUIRED, "invalid value for required: maybe", "invalid value for required: maybe"], "parser: Go's booleans"),
    ("env=X", [".", ".", ".", ".", "."], "typesecret: the variable; parser: means nothing elsewhere"),
    ("env=", [".", ".", ".", ".", "."], "typesecret: the variable; parser: the id is its name"),
    ("env", ["invalid field 'env' must be a key=value pair"; 5], "parser: only readonly, readwrite and required stand alone"),
    ("target", ["invalid field 'target' must be a key=value pair"; 5], "parser: only readonly, readwrite and required stand alone"),
    ("id", ["invalid field 'id' must be a key=value pair"; 5], "parser: only readonly, readwrite and required stand alone"),
    ("", ["invalid field '' must be a key=value pair"; 5], "parser: no empty fields"),
    ("=x", ["unexpected key '' in '=x'"; 5], "parser: known names"),
    (" target=/n", ["unexpected key ' target' in ' target=/n' (did you mean `target`?)"; 5], "parser: blanks count"),
    ("tagret=/n", ["unexpected key 'tagret' in 'tagret=/n' (did you mean `target`?)"; 5], "parser: known names"),
    ("tmpfs-size=1", ["unexpected key 'tmpfs-size' in 'tmpfs-size=1'"; 5], "parser: known names (this is Docker run's)"),
    ("bind-propagation=private", ["unexpected key 'bind-propagation' in 'bind-propagation=private'"; 5], "parser: known names (this is Docker run's)"),
    ("z", ["invalid field 'z' must be a key=value pair"; 5], "parser: known names (this is Podman's)"),
    ("type=", ["unsupported mount type \"\""; 5], "types: five of them"),
    ("type=volume", ["unsupported mount type \"volume\""; 5], "types: five of them"),
    ("type=secert", ["unsupported mount type \"secert\" (did you mean `secret`?)"; 5], "types: five of them"),
    ("id=${none?no id}", ["none: no id"; 5], "environment-replacement: values are expanded"),
    ("${none?x}", ["invalid field '${none?x}' must be a key=value pair"; 5], "parser: names are not expanded"),
    ("x\"y", ["failed to parse csv mounts: bare \" in non-quoted-field"; 5], "parser: a line of CSV"),
    ("\"x", ["failed to parse csv mounts: extraneous or missing \" in quoted-field"; 5], "parser: a line of CSV"),
    ("\"target=/a,b\"", [".", ".", ".", ".", "."], "parser: a line of CSV"),
];

pub(super) fn resolved(
    text: &str,
    environment: &BTreeMap<String, String>,
) -> Result<Mount, String> {
    let flag = Spanned::new(text.to_owned(), Span::new(0, text.len()));
    let mount = RunMount::parse(flag).and_then(|mount| {
        mount.resolve(|value| {
            Expander::new('\\')
                .word(value, environment)
                .map(|expanded| expanded.text)
        })
    });
    mount.map_err(|error| {
        let hint = error
            .hint
            .map(|hint| format!(" ({hint})"))
            .unwrap_or_default();
        format!("{}{hint}", error.message)
    })
}

#[test]
fn every_type_takes_its_options_and_no_others() {
    for (option, expected, source) in OPTIONS {
        for (kind, expected) in TYPES.into_iter().zip(expected) {
            let id = if kind == "secret" { ",id=q" } else { "" };
            let text = format!("type={kind}{id},target=/m,{option}");
            let said = resolved(&text, &BTreeMap::new()).map(drop);
            let expected = match *expected {
                "." => Ok(()),
                message => Err(message.replace('@', kind)),
            };
            assert_eq!(said, expected, "{text:?} ({source})");
        }
    }
}

#[test]
fn options_left_out_have_their_defaults() {
    for (kind, read_only, source) in [
        ("bind", true, "typebind: writes only with rw"),
        ("cache", false, "typecache: read-only only if set"),
        ("tmpfs", false, "typetmpfs: has no such option"),
        (
            "secret",
            true,
            "parser: what is not cache or tmpfs is read-only",
        ),
        (
            "ssh",
            true,
            "parser: what is not cache or tmpfs is read-only",
        ),
    ] {
        let id = if kind == "secret" { ",id=q" } else { "" };
        let mount = resolved(&format!("type={kind}{id}"), &BTreeMap::new()).unwrap();
        assert_eq!(mount.kind.as_str(), kind);
        assert_eq!(mount.read_only, read_only, "{kind}: {source}");
        assert_eq!(
            mount.sharing,
            CacheSharing::Shared,
            "typecache: defaults to shared"
        );
        assert!(!mount.required, "typesecret, typessh: defaults to false");
        assert_eq!((mount.mode, mount.uid, mount.gid), (None, None, None));
        assert_eq!((mount.from, mount.source, mount.target), (None, None, None));
    }
    let plain = resolved("target=/m", &BTreeMap::new()).unwrap();
    assert_eq!(plain.kind, MountType::Bind, "types: bind is the default");
    for (text, message) in [
        (
            "type=secret",
            "invalid secret mount. one of source, target required",
        ),
        (
            "type=secret,env=X",
            "invalid secret mount. one of source, target required",
        ),
        ("type=secret,from=f", "secret mount should not have a from"),
        // Fields are read in order.
        (
            "size=1m,type=tmpfs,target=/m",
            "unexpected key 'size' for mount type 'bind'",
        ),
        (
            "required,type=ssh",
            "unexpected key 'required' for mount type 'bind'",
        ),
    ] {
        assert_eq!(
            resolved(text, &BTreeMap::new()).unwrap_err(),
            message,
            "{text}"
        );
    }
    for text in [
        "sharing=locked,type=cache,target=/m",
        "mode=0700,type=cache,target=/m",
        "type=secret,target=/s",
    ] {
        assert!(resolved(text, &BTreeMap::new()).is_ok(), "{text}");
    }
}
