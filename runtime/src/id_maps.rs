//! Which IDs of a user namespace stand for which IDs outside.
//!
//! Parsing of `/etc/subuid`, `/etc/subgid` and `/proc/<pid>/uid_map`, and the plan of a mapping;
//! all pure.

use std::fmt;

/// As many lines as the kernel takes in one map (`UID_GID_MAP_MAX_EXTENTS`).
const MAX_LINES: usize = 340;

/// IDs `inside..inside+count` stand for `outside..outside+count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first ID in the namespace.
    pub inside: u32,
    /// The first ID outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The map of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdMap(Vec<IdRange>);

impl IdMap {
    /// ID 0 is `own`, nothing else exists.
    pub fn single(own: u32) -> Self {
        Self(vec![IdRange {
            inside: 0,
            outside: own,
            count: 1,
        }])
    }

    /// ID 0 is `own`, the IDs from 1 on are those of `ranges`, one after the other.
    pub(crate) fn with_subordinates(own: u32, ranges: &[SubordinateRange]) -> Self {
        let mut map = Self::single(own);
        let mut inside = 1_u32;
        for range in ranges {
            let room = u32::MAX - inside;
            let count = range.count.min(room);
            if count == 0 || map.0.len() == MAX_LINES {
                break;
            }
            map.0.push(IdRange {
                inside,
                outside: range.first,
                count,
            });
            inside += count;
        }
        map
    }

    /// Reads the form of `/proc/<pid>/uid_map`; lines that are not of it are skipped.
    pub fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let mut fields = line.split_ascii_whitespace().map(str::parse);
            let (inside, outside, count) = (fields.next()?, fields.next()?, fields.next()?);
            Some(IdRange {
                inside: inside.ok()?,
                outside: outside.ok()?,
                count: count.ok()?,
            })
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> &[IdRange] {
        &self.0
    }

    /// How many IDs exist in the namespace.
    pub fn id_count(&self) -> u64 {
        self.0.iter().map(|range| u64::from(range.count)).sum()
    }

    /// Whether every ID stands for itself, as on the host.
    pub fn is_identity(&self) -> bool {
        self.0.len() == 1
            && self
                .0
                .iter()
                .all(|range| range.inside == 0 && range.outside == 0 && range.count == u32::MAX)
    }

    /// The numbers in the order newuidmap takes them.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = String> + '_ {
        self.0
            .iter()
            .flat_map(|range| [range.inside, range.outside, range.count])
            .map(|number| number.to_string())
    }
}

impl fmt::Display for IdMap {
    /// The form that is written to `/proc/<pid>/uid_map`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|range| writeln!(f, "{} {} {}", range.inside, range.outside, range.count))
    }
}

/// A range that `/etc/subuid` or `/etc/subgid` gives to a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SubordinateRange {
    pub(crate) first: u32,
    pub(crate) count: u32,
}

/// The ranges that a file gives to the user with this number or one of these names.
pub(crate) fn parse_subordinates(text: &str, uid: u32, names: &[String]) -> Vec<SubordinateRange> {
    let is_ours = |owner: &str| owner.parse() == Ok(uid) || names.iter().any(|name| name == owner);
    let line = |line: &str| {
        let mut fields = line.trim().split(':');
        let (owner, first, count) = (fields.next()?, fields.next()?, fields.next()?);
        let range = SubordinateRange {
            first: first.parse().ok()?,
            count: count.parse().ok()?,
        };
        let is_sane = range.count > 0 && range.first.checked_add(range.count - 1).is_some();
        (is_ours(owner) && is_sane && fields.next().is_none()).then_some(range)
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "alice:100000:65536\nbob:1:2\n1000:300000:10\n# c\nalice:bad:1\nalice:1\n\
                    alice:5:0\nalice:4294967295:2\nalice:7:1:9\n10000:9:9\n";
        let found = parse_subordinates(text, 1000, &["alice".into()]);
        assert_eq!(
            found,
            [
                SubordinateRange {
                    first: 100_000,
                    count: 65536
                },
                SubordinateRange {
                    first: 300_000,
                    count: 10
                },
            ]
        );
        assert_eq!(parse_subordinates(text, 7, &[]), []);
    }

    #[test]
    fn ranges_follow_each_other_after_the_own_id() {
        let range = |first, count| SubordinateRange { first, count };
        let map = IdMap::with_subordinates(1000, &[range(100_000, 65536), range(300_000, 10)]);
        assert_eq!(
            map.to_string(),
            "0 1000 1\n1 100000 65536\n65537 300000 10\n"
        );
        assert_eq!(map.id_count(), 65547);
        assert_eq!(IdMap::parse(&map.to_string()), map);
        let huge = IdMap::with_subordinates(0, &[range(1, u32::MAX), range(1, u32::MAX)]);
        assert_eq!(huge.id_count(), u64::from(u32::MAX));
    }

    #[test]
    fn the_hosts_own_map_is_recognised() {
        assert!(IdMap::parse("         0          0 4294967295\n").is_identity());
        assert!(!IdMap::parse("0 1000 1\n").is_identity());
        assert!(!IdMap::parse("").is_identity());
    }
}
