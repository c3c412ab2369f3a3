//! Rewrites the part of a document that the program makes, between its markers.

use std::ops::Range;

use pulldown_cmark::{Event, Parser};

use crate::cli::Failure;

/// Replaces what stands between the lines `<!-- tconv:NAME:begin -->` and `<!-- tconv:NAME:end -->`; all else stays.
/// Each marker must be there once, in this order.
pub fn splice(document: &str, name: &str, content: &str) -> Result<String, Failure> {
    let (begin, end) = (format!("<!-- tconv:{name}:begin -->"), format!("<!-- tconv:{name}:end -->"));
    let comments = comments(document);
    let at = |marker: &str| {
        let within = |comment: &Range<usize>| {
            let found = document[comment.clone()].match_indices(marker);
            found.map(|(at, _)| comment.start + at).collect::<Vec<_>>()
        };
        match comments.iter().flat_map(within).collect::<Vec<_>>()[..] {
            [at] => Ok(at),
            [] => Err(Failure(format!("the marker {marker} is missing"))),
            _ => Err(Failure(format!("the marker {marker} is there twice"))),
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
    let within = |comment: Range<usize>| document[comment].split("<!-- tconv:").skip(1);
    comments(document)
        .into_iter()
        .flat_map(within)
        .filter_map(|rest| Some(rest.split_once(":begin -->")?.0))
        .filter(is_name)
        .map(str::to_owned)
        .collect()
}

/// Where the document holds HTML: a marker that is quoted as code is none.
fn comments(document: &str) -> Vec<Range<usize>> {
    let events = Parser::new(document).into_offset_iter();
    events
        .filter(|(event, _)| matches!(event, Event::Html(_) | Event::InlineHtml(_)))
        .map(|(_, at)| at)
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
    fn what_is_quoted_as_code_is_no_marker() {
        let quoted = "Between `<!-- tconv:rank:begin -->` and `<!-- tconv:rank:end -->`:\n\n```html\n<!-- tconv:rank:begin -->\n\
                      <!-- tconv:heat:begin -->\n```\n\n    <!-- tconv:heat:begin -->\n\n";
        assert!(names(quoted).is_empty());
        assert!(splice(quoted, "rank", "new").is_err());
        let document = format!("{quoted}{DOCUMENT}");
        assert_eq!(names(&document), ["rank"]);
        let spliced = splice(&document, "rank", "new").unwrap();
        assert_eq!(spliced, quoted.to_owned() + &splice(DOCUMENT, "rank", "new").unwrap());
        // What was spliced in does not hide the markers behind it.
        let twice = DOCUMENT.to_owned() + &DOCUMENT.replace("rank", "heat");
        let spliced = splice(&twice, "rank", "| a | b |\n|---|---|\n| `x` | <b>y</b> |").unwrap();
        assert_eq!(names(&spliced), ["rank", "heat"]);
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
