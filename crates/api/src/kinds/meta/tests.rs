//! Rules of this file, one line each: what was done to a valid object, and what is said about it.
