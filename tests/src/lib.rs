//! The black-box tests of the whole house.
//!
//! * What: starts the real binary, talks to it as a client would, and holds the sources to the house rules.
//! * In: the built binary, the sources.
//! * Out: test results.
//! * Never: is imported by anything.
//! * Fails: as a test does, saying what to do about it.
