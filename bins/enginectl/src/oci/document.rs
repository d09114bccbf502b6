//! Documents of the specification as callers write them: what the specification says is no error is none.

use serde::de::DeserializeOwned;
use serde_json::Value;

use engine_runtime::spec::Capability;

/// Reads a document, and the names of capabilities in it that nobody knows, which the specification has runtimes leave out.
/// `process`: the way to the process in it.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8], process: &[&str]) -> serde_json::Result<(T, Vec<String>)> {
    let error = match serde_json::from_slice(bytes) {
        Ok(read) => return Ok((read, Vec::new())),
        Err(error) => error,
    };
    let Ok(mut document) = serde_json::from_slice::<Value>(bytes) else { return Err(error) };
    let mut place = &mut document;
    for name in process.iter().chain(&["capabilities"]) {
        match place.get_mut(name) {
            Some(next) => place = next,
            None => return Err(error),
        }
    }
    let unknown = without_unknown(place);
    if unknown.is_empty() {
        return Err(error);
    }
    serde_json::from_value(document).map(|read| (read, unknown))
}

/// Takes unknown names out of the sets.
fn without_unknown(sets: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    for set in sets.as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
        let Some(names) = set.as_array_mut() else { continue };
        names.retain(|name| {
            let known = serde_json::from_value::<Capability>(name.clone()).is_ok();
            if let (false, Some(name)) = (known, name.as_str()) {
                unknown.push(name.to_owned());
                return false;
            }
            true
        });
    }
    unknown.sort();
    unknown.dedup();
    unknown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use engine_runtime::spec::{Process, Spec};

    #[test]
    fn capabilities_that_nobody_knows_are_left_out_and_told() {
        let process = |sets: &str| format!(r#"{{"user":{{"uid":0,"gid":0}},"cwd":"/","capabilities":{sets}}}"#);
        let read = |text: String| super::read::<Process>(text.as_bytes(), &[]);
        let sets = r#"{"bounding":["CAP_KILL","CAP_NEW"],"effective":["CAP_NEW","CAP_OTHER"]}"#;
        let (read_process, unknown) = read(process(sets)).unwrap();
        assert_eq!(unknown, ["CAP_NEW", "CAP_OTHER"]);
        let known = read_process.capabilities().as_ref().unwrap();
        assert_eq!(known.bounding().as_ref().unwrap().len(), 1);
        assert!(known.effective().as_ref().unwrap().is_empty());
        assert_eq!(read(process(r#"{"bounding":["CAP_KILL"]}"#)).unwrap().1, Vec::<String>::new());
        let whole = format!(r#"{{"ociVersion":"1.0.2","process":{}}}"#, process(r#"{"bounding":["CAP_NEW"]}"#));
        let (whole, unknown) = super::read::<Spec>(whole.as_bytes(), &["process"]).unwrap();
        assert_eq!((whole.version().as_str(), unknown), ("1.0.2", vec!["CAP_NEW".to_owned()]));
    }

    #[test]
    fn other_mistakes_stay_mistakes() {
        for text in
            ["", "[]", r#"{"cwd":5}"#, r#"{"user":{"uid":0,"gid":0},"cwd":"/","capabilities":{"bounding":[5]}}"#]
        {
            assert!(super::read::<Process>(text.as_bytes(), &[]).is_err(), "{text}");
        }
        let still = r#"{"user":{"uid":0,"gid":0},"cwd":5,"capabilities":{"bounding":["CAP_NEW"]}}"#;
        assert!(super::read::<Process>(still.as_bytes(), &[]).is_err());
    }
}
