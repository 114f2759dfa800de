use std::fs;
use std::path::Path;

use super::*;
use crate::testing::{self, privileged};

/// `count` lower directories, each with a file of its own; `top` says who was last.
fn lowers(root: &Path, count: usize) -> Vec<PathBuf> {
    (0..count)
        .map(|index| {
            let lower = root.join(format!(
                "a-layer-with-quite-a-long-name-as-digests-are-{index}"
            ));
            fs::create_dir(&lower).unwrap();
            fs::write(lower.join(format!("of-{index}")), "x").unwrap();
            fs::write(lower.join("top"), index.to_string()).unwrap();
            lower
        })
        .rev()
        .collect()
}

#[test]
fn priv_two_hundred_layers_mount_through_every_interface() {
    if !privileged(
        "priv_two_hundred_layers_mount_through_every_interface",
        "root",
    ) {
        return;
    }
    for interface in Interface::ALL {
        let temp = tempfile::tempdir().unwrap();
        let (upper, work) = (temp.path().join("upper"), temp.path().join("work"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        let overlay = Overlay {
            lowers: lowers(temp.path(), 200),
            upper: Some(Upper {
                upper: upper.clone(),
                work,
            }),
            user_xattr: testing::flavour() != crate::tree::Flavour::Root,
        };
        let (mount, used) = overlay
            .mount(interface, &temp.path().join("spare"))
            .unwrap();
        assert_eq!(used, interface);
        let through = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
        assert_eq!(fs::read_to_string(through.join("top")).unwrap(), "199");
        assert!(through.join("of-0").exists() && through.join("of-199").exists());
        fs::write(through.join("new"), "x").unwrap();
        assert!(upper.join("new").exists());
    }
}

#[test]
fn priv_views_are_read_only() {
    if !privileged("priv_views_are_read_only", "root") {
        return;
    }
    for interface in Interface::ALL {
        let temp = tempfile::tempdir().unwrap();
        let overlay = Overlay {
            lowers: lowers(temp.path(), 2),
            upper: None,
            user_xattr: testing::flavour() != crate::tree::Flavour::Root,
        };
        let (mount, _) = overlay
            .mount(interface, &temp.path().join("spare"))
            .unwrap();
        let through = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
        let error = fs::write(through.join("new"), "x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
    }
}

#[test]
fn priv_an_impossible_overlay_says_what_the_kernel_said() {
    if !privileged(
        "priv_an_impossible_overlay_says_what_the_kernel_said",
        "root",
    ) {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let overlay = Overlay {
        lowers: vec![temp.path().join("missing")],
        upper: None,
        user_xattr: testing::flavour() != crate::tree::Flavour::Root,
    };
    let error = overlay
        .mount(Interface::Descriptors, &temp.path().join("spare"))
        .unwrap_err();
    assert!(matches!(error, Error::Io { ref path, .. } if path.ends_with("missing")));
}
