//! Rewrites the part of a document that the program makes, between its markers.

use crate::cli::Failure;

/// Replaces what stands between the lines `<!-- tconv:NAME:begin -->` and `<!-- tconv:NAME:end -->`; all else stays.
/// Each marker must be there once, in this order.
pub fn splice(document: &str, name: &str, content: &str) -> Result<String, Failure> {
    let (begin, end) = (format!("<!-- tconv:{name}:begin -->"), format!("<!-- tconv:{name}:end -->"));
    let at = |marker: &str| {
        let mut found = document.match_indices(marker).map(|(at, _)| at);
        match (found.next(), found.next()) {
            (Some(at), None) => Ok(at),
            (None, _) => Err(Failure(format!("the marker {marker} is missing"))),
            (Some(_), Some(_)) => Err(Failure(format!("the marker {marker} is there twice"))),
        }
    };
    let (start, stop) = (at(&begin)? + begin.len(), at(&end)?);
    if stop < start {
        return Err(Failure(format!("the marker {end} stands before {begin}")));
    }
    Ok(format!("{}\n\n{}\n\n{}", &document[..start], content.trim(), &document[stop..]))
}

/// The names of all parts that a document marks, in their order.
pub fn names(document: &str) -> Vec<String> {
    let begins = document.split("<!-- tconv:").skip(1);
    begins
        .filter_map(|rest| Some(rest.split_once(":begin -->")?.0))
        .filter(is_name)
        .map(str::to_owned)
        .collect()
}

fn is_name(text: &&str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# Title\n<!-- tconv:rank:begin -->\nold\n<!-- tconv:rank:end -->\nrest\n";

    #[test]
    fn only_the_marked_part_changes() {
        let once = splice(DOCUMENT, "rank", "new\n").unwrap();
        assert_eq!(once, "# Title\n<!-- tconv:rank:begin -->\n\nnew\n\n<!-- tconv:rank:end -->\nrest\n");
        assert_eq!(splice(&once, "rank", "new").unwrap(), once);
    }

    #[test]
    fn all_names_are_found() {
        let document =
            DOCUMENT.to_owned() + "<!-- tconv:heat-nhwc-2t:begin --> <!-- tconv:, a word:begin -->";
        assert_eq!(names(&document), ["rank", "heat-nhwc-2t"]);
    }

    #[test]
    fn bad_markers_are_named() {
        for (document, words) in [
            ("nothing".to_owned(), "begin --> is missing"),
            (DOCUMENT.replace("end", "END"), "end --> is missing"),
            (DOCUMENT.repeat(2), "begin --> is there twice"),
            ("<!-- tconv:rank:end --> <!-- tconv:rank:begin -->".to_owned(), "stands before"),
        ] {
            let Failure(message) = splice(&document, "rank", "new").unwrap_err();
            assert!(message.contains(words), "{message}");
        }
    }
}
