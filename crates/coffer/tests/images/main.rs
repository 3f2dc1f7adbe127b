//! Private images on real registries: who gets in, who does not, who is shown which credential, and
//! what users see.

mod pods;
mod registries;
mod sharing;
mod sources;
mod stage;
