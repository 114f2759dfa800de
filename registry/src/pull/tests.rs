use super::*;

fn entry(platform: Option<&str>, tag: &str) -> Descriptor {
    let mut entry = Descriptor::of(MediaType::MANIFEST, tag.as_bytes());
    entry.platform = platform.map(|text| match text {
        "unknown" => Platform::new("unknown", "unknown", None),
        text => text.parse().unwrap(),
    });
    entry.annotations.insert("tag".into(), tag.into());
    entry
}

fn chosen(platforms: &[Option<&str>], wanted: &str) -> String {
    let entries = platforms
        .iter()
        .enumerate()
        .map(|(n, platform)| entry(*platform, &n.to_string()))
        .collect();
    match choose(&Index::new(entries), &wanted.parse().unwrap(), "x") {
        Ok(entry) => entry.annotations["tag"].clone(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_best_platform_of_an_index_is_chosen() {
    let amd = Some("linux/amd64");
    let v6 = Some("linux/arm/v6");
    let v7 = Some("linux/arm/v7");
    let unknown = Some("unknown");
    let none = "x has no image for linux/amd64; it has none at all";
    for (platforms, wanted, expected) in [
        (vec![v6, v7, amd], "linux/arm/v7", "1"),
        (vec![v6, amd], "linux/arm/v7", "0"),
        (vec![amd, amd], "linux/amd64", "0"),
        (vec![unknown, amd], "linux/amd64", "1"),
        (vec![None, unknown], "linux/amd64", "0"),
        (vec![None, None], "linux/amd64", none),
        (
            vec![v7, unknown, v6, v7],
            "linux/amd64",
            "x has no image for linux/amd64; it has linux/arm/v6, linux/arm/v7",
        ),
        (vec![], "linux/amd64", none),
    ] {
        assert_eq!(chosen(&platforms, wanted), expected, "{platforms:?}");
    }
}

#[test]
fn attestations_are_never_chosen() {
    let mut attestation = entry(Some("linux/amd64"), "0");
    attestation.annotations.insert(
        "vnd.docker.reference.type".into(),
        "attestation-manifest".into(),
    );
    let index = Index::new(vec![attestation]);
    assert!(choose(&index, &"linux/amd64".parse().unwrap(), "x").is_err());
}
