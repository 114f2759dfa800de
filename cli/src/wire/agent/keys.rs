//! Private keys from files, answering as an agent does.

use std::io;

use anyhow::{Context as _, bail};
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::signature::{SignatureEncoding as _, Signer as _};
use ssh_key::private::{KeypairData, RsaKeypair};
use ssh_key::{Algorithm, HashAlg, PrivateKey, Signature};
use wythe_builder::Secret;

use super::protocol::{
    FAILURE, IDENTITIES_ANSWER, REQUEST_IDENTITIES, SIGN_REQUEST, SIGN_RESPONSE, put_string,
    take_number, take_string,
};
use super::short_scalar;

/// Flags of a request to sign: which hash an RSA key is to use.
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

/// An agent that has some keys and learns no others.
pub(super) struct Keys(Vec<PrivateKey>);

impl Keys {
    /// Reads keys as their files have them.
    pub(super) fn parse(files: &[Secret]) -> anyhow::Result<Self> {
        files.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// The answer to a message.
    pub(super) fn answer(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        let answer = match message.split_first() {
            Some((&REQUEST_IDENTITIES, [])) => self.list(),
            Some((&SIGN_REQUEST, rest)) => self.sign(rest),
            _ => None,
        };
        Ok(answer.unwrap_or_else(|| vec![FAILURE]))
    }

    fn list(&self) -> Option<Vec<u8>> {
        let mut answer = vec![IDENTITIES_ANSWER];
        answer.extend(u32::try_from(self.0.len()).ok()?.to_be_bytes());
        for key in &self.0 {
            put_string(&mut answer, &key.public_key().to_bytes().ok()?);
            put_string(&mut answer, key.comment().as_bytes());
        }
        Some(answer)
    }

    fn sign(&self, mut request: &[u8]) -> Option<Vec<u8>> {
        let wanted = take_string(&mut request)?;
        let data = take_string(&mut request)?;
        let flags = take_number(&mut request)?;
        let mut keys = self.0.iter();
        let key = keys.find(|key| key.public_key().to_bytes().is_ok_and(|blob| blob == wanted))?;
        let signature = match key.key_data() {
            KeypairData::Rsa(key) => sign_rsa(key, data, flags)?,
            _ => key.try_sign(data).ok()?,
        };
        let mut answer = vec![SIGN_RESPONSE];
        put_string(&mut answer, &Vec::<u8>::try_from(signature).ok()?);
        Some(answer)
    }
}

/// SHA-1, which no flag means, is not offered.
fn sign_rsa(key: &RsaKeypair, data: &[u8], flags: u32) -> Option<Signature> {
    let key = rsa_key(key).ok()?;
    let (hash, bytes) = if flags & RSA_SHA2_512 != 0 {
        let key = rsa::pkcs1v15::SigningKey::<rsa::sha2::Sha512>::new(key);
        (HashAlg::Sha512, key.try_sign(data).ok()?.to_vec())
    } else if flags & RSA_SHA2_256 != 0 {
        let key = rsa::pkcs1v15::SigningKey::<rsa::sha2::Sha256>::new(key);
        (HashAlg::Sha256, key.try_sign(data).ok()?.to_vec())
    } else {
        return None;
    };
    Signature::new(Algorithm::Rsa { hash: Some(hash) }, bytes).ok()
}

/// ssh-key's own conversion takes one prime twice (0.6.7).
fn rsa_key(key: &RsaKeypair) -> ssh_key::Result<rsa::RsaPrivateKey> {
    let number = |number: &ssh_key::Mpint| rsa::BigUint::try_from(number);
    let primes = vec![number(&key.private.p)?, number(&key.private.q)?];
    let (modulus, exponent) = (number(&key.public.n)?, number(&key.public.e)?);
    let key =
        rsa::RsaPrivateKey::from_components(modulus, exponent, number(&key.private.d)?, primes);
    key.map_err(|_| ssh_key::Error::Crypto)
}

/// A key in OpenSSH's own format, or an RSA key as PKCS #1 or PKCS #8. Says nothing of its content
/// in errors.
fn parse(file: &Secret) -> anyhow::Result<PrivateKey> {
    const PASSPHRASE: &str =
        "the key is protected by a passphrase; add it to an agent (ssh-add) and name no file";
    let text = std::str::from_utf8(file.expose()).ok().map(str::trim);
    let Some(text) = text.filter(|text| text.starts_with("-----BEGIN ")) else {
        bail!("this is neither a socket nor a private key in PEM format");
    };
    let label = text.lines().next().unwrap_or_default();
    let rsa = match label {
        "-----BEGIN OPENSSH PRIVATE KEY-----" => {
            let key = match short_scalar::lengthened(text) {
                Some(bytes) => PrivateKey::from_bytes(&bytes),
                None => PrivateKey::from_openssh(text),
            };
            let key = key.ok().context("the key cannot be read")?;
            anyhow::ensure!(!key.is_encrypted(), PASSPHRASE);
            return Ok(key);
        }
        _ if label.contains("ENCRYPTED") || text.contains("\nProc-Type: 4,ENCRYPTED") => {
            bail!(PASSPHRASE)
        }
        "-----BEGIN RSA PRIVATE KEY-----" => rsa::RsaPrivateKey::from_pkcs1_pem(text).ok(),
        "-----BEGIN PRIVATE KEY-----" => rsa::RsaPrivateKey::from_pkcs8_pem(text).ok(),
        _ => None,
    };
    let key = rsa.and_then(|key| RsaKeypair::try_from(key).ok());
    key.map(PrivateKey::from)
        .context("the key cannot be read; `ssh-keygen -p -f FILE` writes it in OpenSSH's format")
}
