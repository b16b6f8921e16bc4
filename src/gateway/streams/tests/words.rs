//! What the resize and the error channel say.

use proptest::prelude::*;

use crate::gateway::streams::resize::Resizes;
use crate::gateway::streams::status::StatusText;
use crate::recording::Ending;

/// Columns and rows, in this order.
fn sizes(pieces: &[&str]) -> Option<Vec<(u16, u16)>> {
    let mut resizes = Resizes::default();
    let mut all = Vec::new();
    for piece in pieces {
        all.extend(resizes.push(piece.as_bytes())?);
    }
    Some(all.iter().map(|size| (size.cols, size.rows)).collect())
}

/// Others have recorded HEIGHTxWIDTH.
#[test]
fn a_width_is_columns_and_a_height_is_rows() {
    let said = "{\"Width\":80,\"Height\":24}";
    assert_eq!(sizes(&[said]), Some(vec![(80, 24)]));
    assert_eq!(
        sizes(&["{\"Height\":24,\"Width\":80}\n"]),
        Some(vec![(80, 24)])
    );
    let twice = format!("{said}\n{{\"Width\":101,\"Height\":37}}");
    for cut in 0..=twice.len() {
        let (front, back) = twice.split_at(cut);
        assert_eq!(
            sizes(&[front, back]),
            Some(vec![(80, 24), (101, 37)]),
            "{cut}"
        );
    }
}

#[test]
fn what_is_no_size_is_refused() {
    for none in [
        "{\"Width\":80}",
        "{\"Width\":-1,\"Height\":1}",
        "{\"Width\":65536,\"Height\":1}",
        "{\"Width\":\"80\",\"Height\":\"24\"}",
        "[80,24",
        "80x24",
        "}",
    ] {
        // A list that is not whole may still become one.
        let told = sizes(&[none, "]"]);
        assert!(told.is_none_or(|sizes| sizes == [(80, 24)]), "{none}");
    }
    assert_eq!(sizes(&[&" ".repeat(4096)]), Some(Vec::new()));
    let endless = format!("{{\"Width\":{}", "1".repeat(2000));
    assert_eq!(sizes(&[&endless]), None, "nothing grows without end");
}

fn ending(pieces: &[&str]) -> Option<Ending> {
    let mut status = StatusText::default();
    for piece in pieces {
        assert!(status.push(piece.as_bytes()));
    }
    status.ending()
}

fn cut(reason: &str) -> Option<Ending> {
    Some(Ending::Cut {
        reason: reason.to_owned(),
    })
}

#[test]
fn an_exit_status_is_the_commands_own() {
    let failed = |reason: &str, causes: &str| {
        ending(&[
            "{\"metadata\":{},\"status\":\"Failure\",\"message\":\"told\",\"reason\":\"",
            reason,
            "\",\"details\":{\"causes\":[",
            causes,
            "]}}",
        ])
    };
    let code = |code: &str| format!("{{\"reason\":\"ExitCode\",\"message\":\"{code}\"}}");
    assert_eq!(ending(&[]), None);
    assert_eq!(ending(&["{\"status\":\"Success\"}"]), Some(Ending::Exit(0)));
    assert_eq!(
        failed("NonZeroExitCode", &code("137")),
        Some(Ending::Exit(137))
    );
    assert_eq!(failed("NonZeroExitCode", &code("-1")), cut("told"));
    assert_eq!(failed("NonZeroExitCode", ""), cut("told"));
    assert_eq!(failed("InternalError", &code("1")), cut("told"));
    let wordless = ending(&["{\"status\":\"Failure\"}"]);
    assert_eq!(wordless, cut("the stream failed without a reason"));
    let none = cut("the API server's status for the stream is none");
    assert_eq!(ending(&["command terminated"]), none);
    assert_eq!(ending(&["{\"status\":\"Success\"}", "{}"]), none);
}

#[test]
fn a_status_is_bounded() {
    let mut status = StatusText::default();
    assert!(status.push(&[b'x'; 64 * 1024]));
    assert!(!status.push(b"x"));
}

proptest! {
    #[test]
    fn any_words_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut resizes = Resizes::default();
        for piece in bytes.chunks(7) {
            if resizes.push(piece).is_none() {
                break;
            }
        }
        let mut status = StatusText::default();
        prop_assert!(status.push(&bytes));
        drop(status.ending());
    }
}
