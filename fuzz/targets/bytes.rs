#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| dob_api_fuzz::bytes::run(input));
