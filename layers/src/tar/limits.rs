//! How much an archive may ask of us. Each is far above what real layers need and far below what
//! hurts. Paths are held to [`crate::tree::EntryPath`]'s own limits.

/// Deepest path in parts. Walks and removals keep one open directory or stack frame a level.
pub const MAX_PATH_PARTS: usize = 1024;
/// Longest symbolic link in bytes: Linux refuses a text of `PATH_MAX` or more.
pub const MAX_LINK_BYTES: usize = 4095;
/// Longest name of an extended attribute in bytes: Linux's `XATTR_NAME_MAX`.
pub const MAX_XATTR_NAME_BYTES: usize = 255;
/// Longest value of an extended attribute in bytes: Linux's `XATTR_SIZE_MAX`.
pub const MAX_XATTR_VALUE_BYTES: usize = 64 << 10;
/// Longest PAX header in bytes; it is held in memory. Go's `archive/tar` has the same limit.
pub const MAX_PAX_BYTES: u64 = 1 << 20;
/// Most headers in an archive: 10 million. The largest known images have about 2 million files.
pub const MAX_HEADERS: u64 = 10_000_000;
/// Most data segments of one sparse file; the map is held in memory, 16 bytes each.
pub const MAX_SPARSE_SEGMENTS: usize = 1 << 20;
/// Most bytes that all holes of an archive's sparse files add up to: 1 TiB. Holes cost the
/// archive nothing, so a few bytes could claim any size. (`lastlog` with a large uid has hundreds of GiB.)
pub const MAX_HOLE_BYTES: u64 = 1 << 40;

/// Longest name as it stands in an archive, before it is normalised: `./` in front, a slash and a
/// NUL behind.
pub(super) const MAX_RAW_NAME_BYTES: usize = crate::tree::MAX_PATH_BYTES + 64;
