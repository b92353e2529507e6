//! What may be stored, by the vectors the TypeScript side is held to as well.

use annals::check_payload;

const VECTORS: &str = include_str!("../pkg-tests/vectors/payload.json");

#[test]
fn a_payload_is_accepted_or_refused_as_its_vector_says() {
    let vectors: Vec<(String, bool)> = serde_json::from_str(VECTORS).expect("readable");
    assert!(vectors.len() > 100, "the vectors are there");
    for (text, accepted) in vectors {
        assert_eq!(check_payload(&text).is_ok(), accepted, "{text:?}: {:?}", check_payload(&text));
    }
}
