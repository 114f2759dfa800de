//! Private keys on NIST's curves whose number happens to begin with zeros: one of four on the curve
//! of 521 bits, one of five hundred on the others. OpenSSH writes such a number without them, which
//! ssh-key (0.6.7) takes for damage.
//!
//! The file's format: `PROTOCOL.key` of OpenSSH.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::protocol::{put_string, take_number, take_string};

const MAGIC: &[u8] = b"openssh-key-v1\0";

/// Private parts are filled up to a multiple of this.
const BLOCK_BYTES: usize = 8;

/// The same key in binary form, its number as long as the curve's; `None` for any other key.
pub(super) fn lengthened(pem: &str) -> Option<Vec<u8>> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let bytes = STANDARD.decode(body).ok()?;
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let (cipher, kdf) = (take_string(&mut rest)?, take_string(&mut rest)?);
    let options = take_string(&mut rest)?;
    let keys = take_number(&mut rest)?;
    let public = take_string(&mut rest)?;
    let private = take_string(&mut rest)?;
    if cipher != b"none" || keys != 1 {
        return None;
    }
    let mut whole = MAGIC.to_vec();
    for field in [cipher, kdf, options] {
        put_string(&mut whole, field);
    }
    whole.extend(keys.to_be_bytes());
    put_string(&mut whole, public);
    put_string(&mut whole, &lengthened_private(private)?);
    Some(whole)
}

/// Two equal check numbers, type, curve, point, number, comment, filling 1, 2, 3 …
fn lengthened_private(private: &[u8]) -> Option<Vec<u8>> {
    let (checks, mut rest) = private.split_at_checked(8)?;
    let (kind, curve) = (take_string(&mut rest)?, take_string(&mut rest)?);
    let (point, number) = (take_string(&mut rest)?, take_string(&mut rest)?);
    let comment = take_string(&mut rest)?;
    let size = match curve {
        b"nistp256" => 32,
        b"nistp384" => 48,
        b"nistp521" => 66,
        _ => return None,
    };
    let zeros = size - number.len().min(size);
    if zeros == 0 {
        return None;
    }
    let mut private = checks.to_vec();
    for field in [kind, curve, point] {
        put_string(&mut private, field);
    }
    put_string(&mut private, &[&vec![0; zeros], number].concat());
    put_string(&mut private, comment);
    let filling = private.len().next_multiple_of(BLOCK_BYTES) - private.len();
    private.extend((1..).take(filling));
    Some(private)
}
