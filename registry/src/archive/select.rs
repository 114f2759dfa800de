//! What the images of an archive are called, and which one is meant.

use wythe_layers::spec::{Descriptor, Reference};
use wythe_layers::store::REF_NAME;

/// Under which containerd and Docker keep the full reference in a layout.
pub(super) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An image in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchivedImage {
    /// What it is called there: references, or any other text that a layout has.
    pub names: Vec<String>,
    /// Its manifest or index.
    pub descriptor: Descriptor,
}

impl ArchivedImage {
    /// Those of its names that are references, normalised; a bare tag (as skopeo and Docker write
    /// into layouts) is none.
    pub fn references(&self) -> Vec<Reference> {
        let mut references: Vec<Reference> = self
            .names
            .iter()
            .filter(|name| name.contains(['/', ':']))
            .filter_map(|name| name.parse().ok())
            .collect();
        references.sort();
        references.dedup();
        references
    }

    fn is_called(&self, name: &str) -> bool {
        if self.names.iter().any(|own| own == name) {
            return true;
        }
        let Ok(wanted) = name.parse::<Reference>() else {
            return false;
        };
        self.references().contains(&wanted)
    }
}

/// The entries of an `index.json` as images: one per manifest, with all its names.
pub(super) fn entries(entries: Vec<Descriptor>) -> Vec<ArchivedImage> {
    let mut images: Vec<ArchivedImage> = Vec::new();
    for entry in entries {
        if !(entry.media_type.is_manifest() || entry.media_type.is_index()) {
            continue;
        }
        let names = [CONTAINERD_NAME, REF_NAME]
            .iter()
            .filter_map(|key| entry.annotations.get(*key).cloned());
        let known = images
            .iter_mut()
            .find(|image| image.descriptor.digest == entry.digest);
        match known {
            Some(image) => image.names.extend(names),
            None => images.push(ArchivedImage {
                names: names.collect(),
                descriptor: entry,
            }),
        }
    }
    for image in &mut images {
        let mut seen = std::collections::BTreeSet::new();
        image.names.retain(|name| seen.insert(name.clone()));
    }
    images
}

/// The image that a name means; the reason when there is not exactly one.
pub(super) fn select<'a>(
    images: &'a [ArchivedImage],
    name: Option<&str>,
) -> Result<&'a ArchivedImage, String> {
    let listed = || {
        let names: Vec<_> = images
            .iter()
            .map(|image| image.names.first().map_or("(no name)", String::as_str))
            .take(20)
            .collect();
        names.join(", ")
    };
    let Some(name) = name else {
        return match images {
            [] => Err("it holds no image".into()),
            [only] => Ok(only),
            _ => Err(format!(
                "it holds {} images, so one has to be named: {}",
                images.len(),
                listed()
            )),
        };
    };
    if let Some(number) = name.strip_prefix('@')
        && let Ok(number) = number.parse::<usize>()
    {
        return images
            .get(number)
            .ok_or_else(|| format!("it holds {} images, none has number {number}", images.len()));
    }
    let found = images.iter().find(|image| image.is_called(name));
    found.ok_or_else(|| format!("it holds no image {name}; it holds {}", listed()))
}
