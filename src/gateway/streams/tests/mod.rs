//! What streams are made of, each part by itself, with honest bytes and others. Whole streams are tried in
//! `gateway::tests` and, with real clients, in `tests/it`.

mod ask;
mod forwards;
mod tar;
mod words;
