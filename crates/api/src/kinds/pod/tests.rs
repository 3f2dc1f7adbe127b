//! Rules of pods, one line each: what was done to a valid pod, and what is said about it.
