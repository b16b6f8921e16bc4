//! The codes that are asked for by keyboard-interactive (RFC 4256), after a key has signed and never before.

use std::borrow::Cow;

use bytes::Bytes;
use russh::MethodKind;
use russh::MethodSet;
use russh::server::Auth;

use crate::messages::Answer;
use crate::totp::Hidden;

/// Answers that are passed on; as many as the deciding side looks at.
const ANSWERS: u32 = 3;
/// How often it is asked. russh does not count what is only begun.
const PROMPTS: u32 = 6;
/// How often a client is asked for nothing while it waits: more often than there are [`NotYet`](Answer::NotYet)s in an attempt's life.
const WAITS: u32 = 100;
/// Longest answer, in bytes.
const LONGEST: usize = 64;

const PROMPT: &str = "One-time code: ";

/// What is said before the link.
const SIGN_IN: &str = "To log in, open this link in a browser, see that the address and the key on it are yours, and sign in. \
Then type the code that it shows. Never open such a link that somebody else has sent you.";

/// What is said before a code of the provider's.
const BY_DEVICE: &str = "To log in, open this page in a browser, type that code there, sign in, and press Enter here. It counts for this login alone. \
Never type such a code that somebody else has sent you: they would be let in as you.";

/// What is going on with a client that has to type a code.
#[derive(Debug)]
pub(super) struct Interactive {
    /// The login name that the key has signed for.
    user: String,
    prompts: u32,
    answers: u32,
    waits: u32,
    asks: Asks,
    /// It was told something that ends it, and only has to say that it has heard.
    told: bool,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Asks {
    /// A one-time code.
    Code,
    /// The code that a browser shows, for which there is no link yet,
    Link,
    /// or this one; or, where it may, for nothing, which is to say that a code of the provider's is wanted instead.
    SignOn { link: String, or_device: bool },
    /// That somebody says that they have typed this code there. From then on the client is asked for nothing, so that it shows that it is there.
    Device { at: String, code: Hidden },
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// A code, whichever was asked for.
    Code(Hidden),
    /// That a code of the provider's is wanted.
    Device,
    /// That the client waits.
    Waits,
}

/// What a client is told about a key that proves nobody, where somebody may say who holds it: its other keys come first.
pub(super) fn or_sign_on() -> Auth {
    Auth::Reject {
        proceed_with_methods: Some(MethodSet::from(
            &[MethodKind::PublicKey, MethodKind::KeyboardInteractive][..],
        )),
        partial_success: false,
    }
}

/// What a client is told about its key.
pub(super) fn ask_for_code() -> Auth {
    Auth::Reject {
        proceed_with_methods: Some(MethodSet::from(&[MethodKind::KeyboardInteractive][..])),
        partial_success: true,
    }
}

/// No, and there is nothing else to try: keys were. Of an empty list clients make one of their own, with passwords in it.
pub(super) fn over() -> Auth {
    Auth::Reject {
        proceed_with_methods: Some(MethodSet::from(&[MethodKind::PublicKey][..])),
        partial_success: false,
    }
}

/// Something to read, and nothing to type.
fn nothing_asked(instructions: Cow<'static, str>) -> Auth {
    Auth::Partial {
        name: Cow::Borrowed(""),
        instructions,
        prompts: Cow::Borrowed(&[]),
    }
}

fn again() -> Auth {
    Auth::Reject {
        proceed_with_methods: Some(MethodSet::from(&[MethodKind::KeyboardInteractive][..])),
        partial_success: false,
    }
}

impl Interactive {
    pub(super) fn of(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            prompts: 0,
            answers: 0,
            waits: 0,
            asks: Asks::Code,
            told: false,
        }
    }

    /// To sign in in a browser.
    pub(super) fn to_sign_on(user: &str) -> Self {
        Self {
            asks: Asks::Link,
            ..Self::of(user)
        }
    }

    /// Whether there is a link to be asked for.
    pub(super) fn needs_link(&self, user: &str) -> bool {
        self.asks == Asks::Link && user == self.user && !self.told
    }

    /// This is it.
    pub(super) fn shows(&mut self, link: String, or_device: bool) {
        self.asks = Asks::SignOn { link, or_device };
    }

    /// This is to be typed there.
    pub(super) fn shows_code(&mut self, at: String, code: Hidden) {
        self.asks = Asks::Device { at, code };
    }

    /// The prompt, if this may ask for one: under another name it would be another login.
    pub(super) fn begin(&mut self, user: &str) -> Auth {
        self.prompts = self.prompts.saturating_add(1);
        if user != self.user || self.told || self.prompts > PROMPTS || self.answers >= ANSWERS {
            return over();
        }
        let (instructions, prompt, shown) = match &self.asks {
            Asks::Code => ("", Cow::Borrowed(PROMPT), false),
            Asks::Link => return over(),
            // In the prompt: instructions are not shown by every client, nor at every log level. What is typed is good for nobody else.
            Asks::SignOn { link, or_device } => {
                let or = match or_device {
                    true => "(or Enter alone, to type a code at the provider instead) ",
                    false => "",
                };
                (
                    SIGN_IN,
                    Cow::Owned(format!("Code from {link} {or}: ")),
                    true,
                )
            }
            Asks::Device { at, code } => {
                let code = code.expose();
                let prompt = format!("Type the code {code} at {at} , then press Enter: ");
                (BY_DEVICE, Cow::Owned(prompt), true)
            }
        };
        Auth::Partial {
            name: Cow::Borrowed(""),
            instructions: Cow::Borrowed(instructions),
            prompts: Cow::Owned(vec![(prompt, shown)]),
        }
    }

    /// What was typed; what to say where that is nothing.
    pub(super) fn typed(
        &mut self,
        user: &str,
        mut answers: impl Iterator<Item = Bytes>,
    ) -> Result<Typed, Auth> {
        // What was never asked for is not answered either.
        if user != self.user || self.told || self.prompts == 0 {
            return Err(over());
        }
        if matches!(self.asks, Asks::Device { .. }) && self.waits < WAITS {
            // Whatever it is: it was asked for Enter, and then for nothing.
            self.waits += 1;
            return Ok(Typed::Waits);
        }
        if self.answers >= ANSWERS || self.waits > 0 {
            return Err(over());
        }
        self.answers += 1;
        let typed = match (answers.next(), answers.next()) {
            (Some(one), None) if one.len() <= LONGEST => one,
            _ => return Err(self.wrong()),
        };
        match std::str::from_utf8(&typed) {
            Ok(text) if !text.trim().is_empty() => Ok(Typed::Code(Hidden::new(text))),
            Ok(_) if self.may_be_device() => Ok(Typed::Device),
            _ => Err(self.wrong()),
        }
    }

    fn may_be_device(&self) -> bool {
        matches!(
            self.asks,
            Asks::SignOn {
                or_device: true,
                ..
            }
        )
    }

    /// What to say to the answer of the deciding side.
    pub(super) fn judged(&mut self, answer: Answer) -> Auth {
        match answer {
            Answer::Yes => Auth::Accept,
            // Clients answer this by themselves, and say nothing of it.
            Answer::NotYet => nothing_asked(Cow::Borrowed("")),
            Answer::No
            | Answer::Code
            | Answer::SignOn { .. }
            | Answer::Link { .. }
            | Answer::Device { .. } => self.wrong(),
            Answer::NoBecause(sentence) => {
                self.told = true;
                nothing_asked(Cow::Owned(sentence))
            }
        }
    }

    fn wrong(&self) -> Auth {
        if self.answers >= ANSWERS {
            over()
        } else {
            again()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(interactive: &mut Interactive, user: &str, answers: &[&[u8]]) -> Option<String> {
        let answers = answers.iter().map(|one| Bytes::copy_from_slice(one));
        match interactive.typed(user, answers).ok()? {
            Typed::Code(code) => Some(code.expose().to_owned()),
            other => panic!("{other:?}"),
        }
    }

    fn asks(auth: &Auth) -> bool {
        matches!(auth, Auth::Partial { prompts, .. } if prompts.len() == 1)
    }

    #[test]
    fn one_answer_of_a_code_s_length_is_passed_on_and_nothing_else() {
        let long = [b'1'; 65];
        let refused: [&[&[u8]]; 7] = [
            &[],
            &[b""],
            &[b"  "],
            &[b"123456", b"123456"],
            &[&[0xff, 0xfe]],
            &[&long],
            &[b"", b""],
        ];
        for answers in refused {
            let mut interactive = Interactive::of("editor");
            assert!(asks(&interactive.begin("editor")));
            assert_eq!(typed(&mut interactive, "editor", answers), None);
            assert_eq!(
                typed(&mut interactive, "editor", &[b"123 456"]),
                Some("123 456".to_owned()),
                "another try"
            );
        }
        let many: Vec<&[u8]> = vec![b"1"; 100_000];
        assert_eq!(typed(&mut Interactive::of("x"), "x", &many), None);
    }

    #[test]
    fn under_another_name_unasked_or_after_a_last_word_nothing_is_taken() {
        let mut unasked = Interactive::of("editor");
        assert_eq!(typed(&mut unasked, "editor", &[b"123456"]), None);

        let mut other = Interactive::of("editor");
        assert!(asks(&other.begin("editor")));
        assert_eq!(other.begin("viewer"), over());
        assert_eq!(typed(&mut other, "viewer", &[b"123456"]), None);

        let mut told = Interactive::of("editor");
        assert!(asks(&told.begin("editor")));
        let said = told.judged(Answer::NoBecause("wait".to_owned()));
        assert!(matches!(said, Auth::Partial { prompts, .. } if prompts.is_empty()));
        assert_eq!(typed(&mut told, "editor", &[b"123456"]), None);
        assert_eq!(told.begin("editor"), over());
    }

    #[test]
    fn prompts_and_answers_are_bounded() {
        let mut interactive = Interactive::of("editor");
        let prompts = (0..100).filter(|_| asks(&interactive.begin("editor")));
        assert_eq!(prompts.count(), 6);

        let mut interactive = Interactive::of("editor");
        let mut passed_on = 0;
        for _ in 0..100 {
            interactive.begin("editor");
            if typed(&mut interactive, "editor", &[b"123456"]).is_some() {
                passed_on += 1;
                let last = interactive.judged(Answer::No) == over();
                assert_eq!(last, passed_on == 3);
            }
        }
        assert_eq!(passed_on, 3);
    }

    fn enter(interactive: &mut Interactive) -> Option<Typed> {
        let nothing = std::iter::once(Bytes::new());
        interactive.typed("editor", nothing).ok()
    }

    #[test]
    fn enter_alone_asks_for_a_providers_code_where_it_may_and_nowhere_else() {
        for (or_device, expected) in [(false, None), (true, Some(Typed::Device))] {
            let mut interactive = Interactive::to_sign_on("editor");
            interactive.shows("https://b.example/login/x".to_owned(), or_device);
            let Auth::Partial { prompts, .. } = interactive.begin("editor") else {
                panic!("it asks");
            };
            let told = prompts[0].0.contains("Enter alone");
            assert_eq!((told, enter(&mut interactive)), (or_device, expected));
        }
        let mut code = Interactive::of("editor");
        code.begin("editor");
        assert_eq!(enter(&mut code), None);
    }

    #[test]
    fn who_waits_for_a_provider_is_asked_for_nothing_a_bounded_number_of_times() {
        let mut interactive = Interactive::to_sign_on("editor");
        interactive.shows("https://b.example/login/x".to_owned(), true);
        interactive.begin("editor");
        let (at, code) = ("https://idp.example/d".to_owned(), Hidden::new("WDJB-MJHT"));
        interactive.shows_code(at, code);
        let Auth::Partial { prompts, .. } = interactive.begin("editor") else {
            panic!("it asks");
        };
        assert!(prompts[0].0.contains("WDJB-MJHT at https://idp.example/d "));
        // Whatever is answered to that, it is no code.
        let many = (0..1000).map(|_| Bytes::from("x"));
        assert_eq!(interactive.typed("editor", many).ok(), Some(Typed::Waits));
        let mut waited = 1;
        while interactive.typed("editor", std::iter::empty()).is_ok() {
            waited += 1;
            let Auth::Partial {
                prompts,
                instructions,
                ..
            } = interactive.judged(Answer::NotYet)
            else {
                panic!("it goes on");
            };
            assert!(prompts.is_empty() && instructions.is_empty());
        }
        assert_eq!(waited, 100);
        assert!(interactive.typed("viewer", std::iter::empty()).is_err());
    }
}
