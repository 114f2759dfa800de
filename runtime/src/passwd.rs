//! Users and groups by name, as an image's `/etc/passwd` and `/etc/group` have them.
//!
//! Parsing is pure; lines that are not of the format are skipped, as every libc does. The files
//! are the image's and so hostile: [`read_database`] opens them without ever leaving the root it
//! is given, takes regular files only and stops at [`MAX_DATABASE_BYTES`].

use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::str::FromStr;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};

/// Larger than any passwd file that means well: a hundred thousand users.
pub const MAX_DATABASE_BYTES: u64 = 8 << 20;

/// `name|uid[:group|gid]`, not looked up yet. The default, nothing, is root.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UserSpec {
    /// A name or a number; empty is root.
    pub user: String,
    /// A name or a number; `None` is the user's own group.
    pub group: Option<String>,
}

impl FromStr for UserSpec {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once(':') {
            Some((user, group)) => Self {
                user: user.to_owned(),
                group: (!group.is_empty()).then(|| group.to_owned()),
            },
            None => Self {
                user: text.to_owned(),
                group: None,
            },
        })
    }
}

impl fmt::Display for UserSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        self.group
            .as_ref()
            .map_or(Ok(()), |group| write!(f, ":{group}"))
    }
}

/// A user that has been looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedUser {
    /// The user ID.
    pub uid: u32,
    /// The group ID.
    pub gid: u32,
    /// Groups that the group file puts the user in; none where the group was given by hand.
    pub groups: Vec<u32>,
    /// The home directory, `/` where nothing is known.
    pub home: String,
}

/// A name that the image does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// Not in the passwd file and no number.
    #[error("the image has no user {0:?}")]
    NoSuchUser(String),
    /// Not in the group file and no number.
    #[error("the image has no group {0:?}")]
    NoSuchGroup(String),
}

struct PasswdLine<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupLine<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn passwd_lines(text: &[u8]) -> impl Iterator<Item = PasswdLine<'_>> {
    fields(text).filter_map(|mut fields| {
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(PasswdLine {
            name,
            uid,
            gid,
            home: fields.nth(1).unwrap_or(""),
        })
    })
}

fn group_lines(text: &[u8]) -> impl Iterator<Item = GroupLine<'_>> {
    fields(text).filter_map(|mut fields| {
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(GroupLine {
            name,
            gid,
            members: fields.next().unwrap_or(""),
        })
    })
}

fn fields(text: &[u8]) -> impl Iterator<Item = std::str::Split<'_, char>> {
    text.split(|&byte| byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(|line| line.trim_end_matches('\r').split(':'))
}

/// Looks `spec` up in the bytes of a passwd and a group file (empty where the image has none).
/// A number is never a name, as Docker has it.
///
/// # Errors
/// A name that neither file knows and that is no number.
pub fn resolve(spec: &UserSpec, passwd: &[u8], group: &[u8]) -> Result<ResolvedUser, UserError> {
    let wanted = if spec.user.is_empty() {
        "0"
    } else {
        spec.user.as_str()
    };
    let number = wanted.parse::<u32>().ok();
    let line = passwd_lines(passwd).find(|line| match number {
        Some(uid) => line.uid == uid,
        None => line.name == wanted,
    });
    let mut user = match (&line, number) {
        (Some(line), _) => ResolvedUser {
            uid: line.uid,
            gid: line.gid,
            groups: Vec::new(),
            // Of two names for one number the first counts here, whichever was asked for: runc
            // knows no names.
            home: passwd_lines(passwd)
                .find(|first| first.uid == line.uid)
                .map_or(line.home, |first| first.home)
                .into(),
        },
        // Whom the image does not know lives at the top of it, root too.
        (None, Some(uid)) => ResolvedUser {
            uid,
            gid: 0,
            groups: Vec::new(),
            home: "/".into(),
        },
        (None, None) => return Err(UserError::NoSuchUser(wanted.to_owned())),
    };
    match &spec.group {
        Some(wanted) => user.gid = resolve_group(wanted, group)?,
        None => {
            if let Some(line) = &line {
                let is_member =
                    |members: &str| members.split(',').any(|member| member.trim() == line.name);
                user.groups = group_lines(group)
                    .filter(|group| is_member(group.members))
                    .map(|group| group.gid)
                    .collect();
            }
        }
    }
    Ok(user)
}

/// Looks one group up, by name or number.
///
/// # Errors
/// A name that the file does not know and that is no number.
pub fn resolve_group(wanted: &str, group: &[u8]) -> Result<u32, UserError> {
    if let Ok(gid) = wanted.parse() {
        return Ok(gid);
    }
    group_lines(group)
        .find(|line| line.name == wanted)
        .map(|line| line.gid)
        .ok_or_else(|| UserError::NoSuchGroup(wanted.to_owned()))
}

/// Why a user database was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// A fifo, a device, a directory.
    #[error("it is not a regular file")]
    NotRegular,
    /// More than [`MAX_DATABASE_BYTES`].
    #[error("it is larger than {MAX_DATABASE_BYTES} bytes")]
    TooLarge,
    /// The kernel said no.
    #[error("it cannot be read")]
    Io(#[source] io::Error),
}

/// Reads `etc/passwd` or `etc/group` below `root`. Links are followed, but `/` and `..` mean the
/// given root, and the shortcuts of /proc are not taken. A missing file is an empty one.
///
/// # Errors
/// Anything but a readable regular file of sane size.
pub fn read_database(root: impl AsFd, path: &str) -> Result<Vec<u8>, DatabaseError> {
    // A fifo must not block us, nor a terminal become ours.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve);
    let file = match opened {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(Vec::new()),
        Err(error) => return Err(DatabaseError::Io(error.into())),
    };
    let stat = rustix::fs::fstat(&file).map_err(|error| DatabaseError::Io(error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(DatabaseError::NotRegular);
    }
    let mut bytes = Vec::new();
    File::from(file)
        .take(MAX_DATABASE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(DatabaseError::Io)?;
    if bytes.len() as u64 > MAX_DATABASE_BYTES {
        return Err(DatabaseError::TooLarge);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        broken\n\
        web:x:33:33:web:/var/www:/bin/false\r\n\
        1000:x:7:8::/odd:\n\
        thousand:x:1000:1001::/home/thousand:\n\
        nohome:x:12:12:::\n\
        toor:x:0:50:::\n\xff\xfe:x:1:1::/:\n";
    const GROUP: &[u8] = b"root:x:0:\nadm:x:4:web,thousand\nstaff:x:50:thousand\nweb:x:33:\n";

    #[test]
    fn specs_resolve_as_docker_resolves_them() {
        let rows: [(&str, u32, u32, &[u32], &str); 11] = [
            ("", 0, 0, &[], "/root"),
            ("root", 0, 0, &[], "/root"),
            ("0", 0, 0, &[], "/root"),
            ("web", 33, 33, &[4], "/var/www"),
            ("33", 33, 33, &[4], "/var/www"),
            ("web:staff", 33, 50, &[], "/var/www"),
            ("web:99", 33, 99, &[], "/var/www"),
            // A number is no name, even where there is a user of that name.
            ("1000", 1000, 1001, &[4, 50], "/home/thousand"),
            ("4242", 4242, 0, &[], "/"),
            ("nohome", 12, 12, &[], ""),
            ("toor", 0, 50, &[], "/root"),
        ];
        for (spec, uid, gid, groups, home) in rows {
            let user = resolve(&spec.parse().unwrap(), PASSWD, GROUP).unwrap();
            let expected = ResolvedUser {
                uid,
                gid,
                groups: groups.to_vec(),
                home: home.to_owned(),
            };
            assert_eq!(user, expected, "{spec}");
        }
        let root = resolve(&"".parse().unwrap(), b"", b"").unwrap();
        assert_eq!((root.uid, root.home.as_str()), (0, "/"));
    }

    #[test]
    fn unknown_names_are_errors() {
        let lookup = |spec: &str| resolve(&spec.parse().unwrap(), PASSWD, GROUP).unwrap_err();
        assert_eq!(lookup("ghost"), UserError::NoSuchUser("ghost".into()));
        assert_eq!(
            lookup("web:ghosts"),
            UserError::NoSuchGroup("ghosts".into())
        );
        assert_eq!(lookup("-1"), UserError::NoSuchUser("-1".into()));
        assert_eq!(
            lookup("4294967296"),
            UserError::NoSuchUser("4294967296".into())
        );
    }

    #[test]
    fn a_database_is_read_only_from_inside_and_only_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(dir.path().join("outside"), "host:x:1:1::/:\n").unwrap();
        let open = || rustix::fs::open(&root, OFlags::PATH, Mode::empty()).unwrap();
        assert_eq!(read_database(open(), "etc/passwd").unwrap(), b"");

        let passwd = root.join("etc/passwd");
        for target in ["../../outside", "/outside"] {
            std::os::unix::fs::symlink(target, &passwd).unwrap();
            assert_eq!(
                read_database(open(), "etc/passwd").unwrap(),
                b"",
                "{target}"
            );
            std::fs::remove_file(&passwd).unwrap();
        }
        std::os::unix::fs::symlink("/etc/real", &passwd).unwrap();
        std::fs::write(root.join("etc/real"), "in:x:1:1::/:\n").unwrap();
        assert_eq!(
            read_database(open(), "etc/passwd").unwrap(),
            b"in:x:1:1::/:\n"
        );
        std::fs::remove_file(&passwd).unwrap();

        rustix::fs::mknodat(
            rustix::fs::CWD,
            &passwd,
            FileType::Fifo,
            Mode::from(0o666),
            0,
        )
        .unwrap();
        assert!(matches!(
            read_database(open(), "etc/passwd"),
            Err(DatabaseError::NotRegular)
        ));
        std::fs::remove_file(&passwd).unwrap();

        File::create(&passwd).unwrap().set_len(1 << 40).unwrap();
        assert!(matches!(
            read_database(open(), "etc/passwd"),
            Err(DatabaseError::TooLarge)
        ));
    }
}
