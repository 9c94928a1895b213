#![no_main]

#[path = "../../support/fuzz/xml.rs"]
#[allow(dead_code)] // each target uses one law of the file
mod xml;

libfuzzer_sys::fuzz_target!(|data: &[u8]| xml::messages(data));
