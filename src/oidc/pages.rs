//! The pages that people see. Whatever is not ours in them is escaped.

use std::net::IpAddr;

use super::Asked;
use crate::clock::to_the_second;
use crate::config::Name;
use crate::totp::Hidden;

/// The longest of what others say that is shown, in characters.
const SHOWN: usize = 128;

const STYLE: &str = "body{font:17px/1.5 system-ui,sans-serif;max-width:40em;margin:3em auto;padding:0 1em;color:#111;background:#fff}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3em 1em}dd{margin:0;font-family:monospace;overflow-wrap:anywhere}\
.code{font:bold 2.2em monospace;letter-spacing:.1em;padding:.4em .6em;border:2px solid #111;display:inline-block}\
.warn{border-left:6px solid #b00;padding:.5em 1em;background:#fee}\
a.go{display:inline-block;padding:.6em 1.2em;border:2px solid #111;text-decoration:none;color:#111;margin:.3em .6em .3em 0}";

/// What others say, as it may be shown anywhere: escaped and cut.
pub(super) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN).collect();
    cut.escape_debug().to_string()
}

/// Before anybody is asked anything: what this link is for.
pub(super) fn begin(
    host: &str,
    link: &str,
    asked: &Asked,
    browser: IpAddr,
    providers: &[Name],
) -> String {
    let mut ways = String::new();
    for provider in providers {
        ways.push_str(&format!(
            "<a class=\"go\" href=\"/login/{}/{provider}\">Sign in with {provider}</a>",
            escaped(link)
        ));
    }
    page(
        "Sign in for ssh",
        &format!(
            "<p>An ssh to <b>{}</b> waits for you to sign in:</p>{}{}<p>{ways}</p>",
            escaped(host),
            facts(asked, browser),
            WARNING
        ),
    )
}

/// The provider has said who it is.
pub(super) fn code(asked: &Asked, browser: IpAddr, who: &Name, code: &Hidden) -> String {
    page(
        "Your code",
        &format!(
            "<p>You are <b>{who}</b>. Type this code into the ssh that you have started:</p>\
             <p class=\"code\">{}</p>{}{}\
             <p>Whoever types it is let in as {who}. Tell it to nobody, and read it to nobody over the phone: nobody who helps you needs it.</p>",
            escaped(code.expose()),
            facts(asked, browser),
            WARNING
        ),
    )
}

/// Why it goes no further.
pub(super) fn sorry(why: &str) -> String {
    page(
        "Not signed in",
        &format!(
            "<p>{}.</p><p>To try again, log in again by ssh, or open the link that it shows once more.</p>",
            escaped(why)
        ),
    )
}

const WARNING: &str = "<p class=\"warn\"><b>Did somebody send you this link? Then close this page.</b> They have started an ssh with a key of \
theirs and want to be let in as you. Go on only if you have just typed ssh yourself, the address is where you are, and the key is yours \
(<code>ssh-keygen -lf KEY.pub</code> shows its fingerprint).</p>";

fn facts(asked: &Asked, browser: IpAddr) -> String {
    let ssh = asked.peer.address.ip().to_canonical();
    let differs = match ssh == browser.to_canonical() {
        true => "",
        false => " (another address than ssh's)",
    };
    let whose = match &asked.identity {
        Some(name) => format!(", a key of {name}"),
        None => ", a key that is new here".to_owned(),
    };
    format!(
        "<dl><dt>ssh comes from</dt><dd>{ssh}</dd><dt>its key</dt><dd>{}{whose}</dd><dt>it asks for</dt><dd>{}</dd>\
         <dt>since</dt><dd>{}</dd><dt>your browser comes from</dt><dd>{browser}{differs}</dd></dl>",
        escaped(&asked.fingerprint),
        escaped(&asked.principal),
        to_the_second(asked.began),
    )
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>{body}</body></html>\n"
    )
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}
