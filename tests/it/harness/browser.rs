//! A browser: follows links and redirects, keeps cookies, fills forms in, runs nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One person's.
pub(crate) struct Browser {
    jar: tempfile::NamedTempFile,
    ca: PathBuf,
}

/// Where it is.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    /// After all redirects.
    pub(crate) url: String,
    pub(crate) text: String,
    /// Where a redirect that was not followed leads.
    pub(crate) location: String,
}

impl Browser {
    /// That knows servers by this CA.
    pub(crate) fn new(ca: &Path) -> Self {
        Self {
            jar: tempfile::NamedTempFile::new().unwrap(),
            ca: ca.to_owned(),
        }
    }

    pub(crate) fn get(&self, url: &str) -> Page {
        self.curl(&["--location", url])
    }

    /// Without following a redirect.
    pub(crate) fn knock(&self, url: &str) -> Page {
        self.curl(&[url])
    }

    fn post(&self, url: &str, fields: &[&str]) -> Page {
        let mut args = vec!["--location", url];
        for field in fields {
            args.extend(["--data-urlencode", field]);
        }
        self.curl(&args)
    }

    /// Types a code at a page of the provider's, and then presses that button, `confirm` or `abort`.
    pub(crate) fn type_code(&self, at: &str, code: &str, button: &str) -> Page {
        let code = format!("user_code={code}");
        let page = self.get(at);
        let page = self.post(at, &[&format!("xsrf={}", page.field("xsrf")), &code]);
        let xsrf = format!("xsrf={}", page.field("xsrf"));
        self.post(at, &[&xsrf, &code, &format!("{button}=yes")])
    }

    /// From a page of the provider's on: signs in, and says yes to everything.
    pub(crate) fn sign_in(&self, page: &Page, who: &str) -> Page {
        assert!(page.text.contains("name=\"login\""), "{page:?}");
        let login = format!("login={who}");
        let mut page = self.post(&page.url, &["prompt=login", &login, "password=x"]);
        if page.url.contains("/interaction/") {
            page = self.post(&page.url, &["prompt=consent"]);
        }
        page
    }

    fn curl(&self, args: &[&str]) -> Page {
        let jar = self.jar.path().to_str().unwrap();
        let output = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "20",
                "--max-redirs",
                "10",
            ])
            .args(["--cookie", jar, "--cookie-jar", jar, "--cacert"])
            .arg(&self.ca)
            .args([
                "--write-out",
                "\n%{http_code}\n%{url_effective}\n%{redirect_url}",
            ])
            .args(args)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        let text = String::from_utf8(output.stdout).unwrap();
        let mut parts = text.rsplitn(4, '\n');
        let location = parts.next().unwrap().to_owned();
        let url = parts.next().unwrap().to_owned();
        let status = parts.next().unwrap().parse().unwrap();
        Page {
            status,
            url,
            location,
            text: parts.next().unwrap().to_owned(),
        }
    }
}

impl Page {
    /// Where a link of this page with `part` in it leads.
    pub(crate) fn link(&self, part: &str) -> String {
        let mut links = self.text.split("href=\"").skip(1);
        let link = links.find_map(|rest| {
            let link = rest.split('"').next().unwrap();
            link.contains(part).then_some(link)
        });
        let link = link.unwrap_or_else(|| panic!("no link with {part}: {self:?}"));
        let host: Vec<&str> = self.url.splitn(4, '/').take(3).collect();
        format!("{}{link}", host.join("/"))
    }

    /// What a field of its form holds.
    fn field(&self, name: &str) -> String {
        let rest = self.text.split(&format!("name=\"{name}\" value=\"")).nth(1);
        let rest = rest.unwrap_or_else(|| panic!("no field {name}: {self:?}"));
        rest.split('"').next().unwrap().to_owned()
    }

    /// The code on it.
    pub(crate) fn code(&self) -> Option<String> {
        let rest = self.text.split("class=\"code\">").nth(1)?;
        Some(rest.split('<').next().unwrap().to_owned())
    }
}
