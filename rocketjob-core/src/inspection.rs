//! What a store tells of itself.

use jiff::SignedDuration;

/// What a store is and whether it is fit for work.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// What keeps the jobs, with its version, such as `MongoDB 6.0.5`.
    pub product: String,
    /// How it is laid out, such as `replica set rs0 of 3 members`.
    pub topology: String,
    /// When a write counts as made, such as `acknowledged by a majority, with journal`.
    pub durability: String,
    /// The store's clock minus that of this machine.
    pub clock_offset: SignedDuration,
    /// What does not fit, each with what to do about it; none in a store that is fit for work.
    pub problems: Vec<String>,
}
