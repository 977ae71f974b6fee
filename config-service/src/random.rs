//! What must not be guessed: from the operating system's random numbers.

use rand::{TryRngCore, rand_core::OsError, rngs::OsRng};

/// A new random key: 256 bits, safe in URLs and headers.
///
/// # Errors
/// When the operating system has no random numbers.
pub fn new_key() -> Result<String, OsError> {
    Ok(format!("dw_{}_{}", hex(8)?, hex(32)?))
}

/// A new random enrolment token: as a key, and told from one.
///
/// # Errors
/// As [`new_key`].
pub(crate) fn new_token() -> Result<String, OsError> {
    Ok(format!("dwt_{}_{}", hex(8)?, hex(32)?))
}

/// So many random bytes, in hex.
///
/// # Errors
/// As [`new_key`].
pub(crate) fn hex(bytes: usize) -> Result<String, OsError> {
    let mut random = vec![0; bytes];
    OsRng.try_fill_bytes(&mut random)?;
    Ok(protocol::hex(&random))
}
