#![doc = include_str!("../ARCHITECTURE.md")]

pub mod openai;

pub mod prompt;

pub mod answer;

pub mod tokens;

pub mod price;

pub mod statistics;

pub mod scoring;

pub mod stopping;

pub mod keys;

pub mod policy;

pub mod trace;

pub mod decision;

pub mod exchange;

pub mod labels;

pub mod outcomes;

pub mod calibration;

pub mod clock;

pub mod rate;
pub mod shared;

pub mod upstream;

pub mod conversation;

pub mod drift;

pub mod cascade;

pub mod explanation;

pub mod savings;

pub mod report;

pub mod recording;

pub mod imported;

pub mod replay;

pub mod distillation;

pub mod gateway;

pub mod cli;
