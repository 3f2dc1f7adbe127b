//! Resource quantities as plain numbers, rounded up. The API server has validated them; what
//! cannot be read here counts as absent.

use coffer_api::quantity::Quantity as Parsed;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Thousandths: `100m` CPU is 100.
pub(crate) fn milli_value(quantity: &Quantity) -> Option<i64> {
    Parsed::of(quantity).ok().map(|parsed| parsed.milli())
}

/// Whole units: bytes of memory.
pub(crate) fn value(quantity: &Quantity) -> Option<i64> {
    Parsed::of(quantity).ok().map(|parsed| parsed.units())
}
