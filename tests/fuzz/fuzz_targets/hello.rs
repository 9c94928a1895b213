#![no_main]

#[path = "../../support/fuzz/mod.rs"]
#[allow(dead_code, unused_imports)] // each target uses one law of many
mod laws;

libfuzzer_sys::fuzz_target!(|data: &[u8]| laws::hello(data));
