//! The ssh agent protocol, as far as a step may speak it (draft-ietf-sshm-ssh-agent, sections 3 to 5).
//!
//! A message is a length (4 bytes, big endian), a type (1 byte) and its content. A step may ask for
//! the keys and for signatures. Everything else, above all adding and removing keys and locking, is
//! answered with a failure and never reaches the agent.

use std::io::{self, Read, Write};

/// Longest message that is read, in bytes: what OpenSSH takes.
const MAX_MESSAGE_BYTES: u32 = 256 * 1024;

pub(super) const FAILURE: u8 = 5;
pub(super) const REQUEST_IDENTITIES: u8 = 11;
pub(super) const IDENTITIES_ANSWER: u8 = 12;
pub(super) const SIGN_REQUEST: u8 = 13;
pub(super) const SIGN_RESPONSE: u8 = 14;

/// Answers one client until it hangs up; `ask` gets the messages that are allowed, type first.
pub(super) fn answer(
    client: &mut (impl Read + Write),
    mut ask: impl FnMut(&[u8]) -> io::Result<Vec<u8>>,
) -> io::Result<()> {
    while let Some(message) = read(client)? {
        let reply = match message.first() {
            Some(&(REQUEST_IDENTITIES | SIGN_REQUEST)) => ask(&message)?,
            _ => vec![FAILURE],
        };
        write(client, &reply)?;
    }
    Ok(())
}

/// The next message without its length; `None` at the end.
pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let length = u32::from_be_bytes(length);
    if length == 0 || length > MAX_MESSAGE_BYTES {
        return Err(invalid(
            "a message of the ssh agent has an impossible length",
        ));
    }
    let mut message = Vec::new();
    from.take(length.into()).read_to_end(&mut message)?;
    if message.len() as u64 != u64::from(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(message))
}

/// Sends a message.
pub(super) fn write(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let mut whole = Vec::with_capacity(4 + message.len());
    put_string(&mut whole, message);
    to.write_all(&whole)
}

/// Appends a string: its length, then its bytes (RFC 4251, section 5).
pub(super) fn put_string(to: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    to.extend(length.to_be_bytes());
    to.extend(bytes);
}

/// Takes a string off the front; `None` where there is none.
pub(super) fn take_string<'m>(message: &mut &'m [u8]) -> Option<&'m [u8]> {
    let length = take_number(message)?;
    let (string, rest) = message.split_at_checked(length.try_into().ok()?)?;
    *message = rest;
    Some(string)
}

/// Takes a number of 4 bytes off the front.
pub(super) fn take_number(message: &mut &[u8]) -> Option<u32> {
    let (number, rest) = message.split_first_chunk()?;
    *message = rest;
    Some(u32::from_be_bytes(*number))
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Client {
        sends: io::Cursor<Vec<u8>>,
        gets: Vec<u8>,
    }

    impl Read for Client {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.sends.read(buffer)
        }
    }

    impl Write for Client {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.gets.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn client(bytes: &[u8]) -> Client {
        Client {
            sends: io::Cursor::new(bytes.to_vec()),
            gets: Vec::new(),
        }
    }

    #[test]
    fn only_listing_and_signing_reach_the_agent() {
        // 17 add, 18 remove, 19 remove all, 20 and 21 smart cards, 22 lock, 23 unlock,
        // 25 add constrained, 26 smart card constrained, 27 extension; 1 and 255 are nothing.
        let refused = [1, 17, 18, 19, 20, 21, 22, 23, 25, 26, 27, 255];
        for kind in 0..=u8::MAX {
            let mut asked = Vec::new();
            let mut client = client(&[0, 0, 0, 2, kind, 7]);
            answer(&mut client, |message| {
                asked.push(message.to_vec());
                Ok(vec![99])
            })
            .unwrap();
            if kind == REQUEST_IDENTITIES || kind == SIGN_REQUEST {
                assert!(!refused.contains(&kind));
                assert_eq!(asked, [[kind, 7]]);
                assert_eq!(client.gets, [0, 0, 0, 1, 99]);
            } else {
                assert!(asked.is_empty(), "{kind}");
                assert_eq!(client.gets, [0, 0, 0, 1, FAILURE], "{kind}");
            }
        }
    }

    #[test]
    fn impossible_messages_end_the_connection() {
        let cases: [&[u8]; 4] = [
            &[0, 0, 0, 0],
            &[0xff, 0xff, 0xff, 0xff, 11],
            &[0, 4, 0, 1, 11],
            &[0, 0, 0, 9, 11],
        ];
        for bytes in cases {
            let mut client = client(bytes);
            let result = answer(&mut client, |_| Ok(vec![99]));
            assert!(result.is_err(), "{bytes:?}");
            assert!(client.gets.is_empty());
        }
    }

    #[test]
    fn strings_are_taken_off_only_whole() {
        let mut message: &[u8] = &[0, 0, 0, 2, 1, 2, 0, 0, 0, 9, 1];
        assert_eq!(take_string(&mut message), Some(&[1, 2][..]));
        assert_eq!(take_string(&mut message), None);
    }
}
