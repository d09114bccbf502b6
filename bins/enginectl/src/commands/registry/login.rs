//! `enginectl login`.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};

use engine_api::image::{LoginAnswer, RegistryAuth};

use crate::client::{Payload, Query, parse};
use crate::credentials::{Store, server_of};
use crate::error::Error;
use crate::output::table::Table;
use crate::session::Session;

/// Log in to a registry
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show who is logged in where, and ask no registry
    #[arg(long)]
    list: bool,
    /// The password; standard input is safer
    #[arg(short = 'p', long, value_name = "PASSWORD")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// Name of the user
    #[arg(short = 'u', long, value_name = "NAME")]
    username: Option<String>,
    /// The registry; Docker Hub when not given
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

/// Passwords and tokens are shorter.
const MOST: u64 = 64 << 10;

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    if args.list {
        if args.server.is_some() || args.username.is_some() || args.password.is_some() || args.password_stdin {
            return Err(Error::Invalid("--list takes nothing else".to_owned()));
        }
        return show(session);
    }
    let server = server_of(args.server.as_deref().unwrap_or("docker.io"));
    if args.password.is_some() {
        if args.password_stdin {
            return Err(Error::Invalid("--password and --password-stdin are mutually exclusive".to_owned()));
        }
        session.complain("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let mut store = Store::open(session)?;
    let auth = match (&args.username, &args.password, args.password_stdin) {
        (None, _, true) => {
            return Err(Error::Invalid("the --password-stdin option requires --username to be set".to_owned()));
        }
        (Some(name), None, true) => credentials(&server, name, password_of_input(session)?),
        (Some(name), Some(password), false) => credentials(&server, name, password.clone()),
        (name, password, _) => {
            let known = store.get(&server)?.filter(|known| name.is_none() && password.is_none() && !known.is_nobody());
            match known {
                Some(known) => {
                    session.print_line("Authenticating with existing credentials...")?;
                    known.into_wire()
                }
                None => ask(session, &server, name.clone(), password.clone())?,
            }
        }
    };
    let answer = session.client()?.post("/auth", &Query::new(), Payload::json(&auth)?).await?;
    let answer: LoginAnswer = parse("/auth", &answer)?;
    let kept = if answer.identity_token.is_empty() {
        auth
    } else {
        RegistryAuth { password: String::new(), identitytoken: answer.identity_token, ..auth }
    };
    if let Some(warning) = store.put(&server, &kept)? {
        session.complain(warning);
    }
    session.print_line(answer.status)?;
    Ok(0)
}

fn show(session: &mut Session) -> Result<u8, Error> {
    let (names, complaints) = Store::open(session)?.everywhere();
    complaints.iter().for_each(|complaint| session.complain(complaint));
    let mut table = Table::new(["REGISTRY", "USERNAME"]);
    names.into_iter().for_each(|(server, name)| table.row([server, name]));
    session.print(table.render(session.width()))?;
    Ok(u8::from(!complaints.is_empty()))
}

fn credentials(server: &str, username: &str, password: String) -> RegistryAuth {
    RegistryAuth {
        username: username.to_owned(),
        password,
        serveraddress: server.to_owned(),
        ..RegistryAuth::default()
    }
}

fn password_of_input(session: &Session) -> Result<String, Error> {
    let mut text = String::new();
    (&session.io.stdin).take(MOST).read_to_string(&mut text).map_err(Error::io("read the password"))?;
    Ok(text.trim_end_matches('\n').trim_end_matches('\r').to_owned())
}

fn ask(
    session: &Session,
    server: &str,
    username: Option<String>,
    password: Option<String>,
) -> Result<RegistryAuth, Error> {
    if !session.io.stdin.is_terminal() {
        return Err(Error::Invalid(
            "cannot perform an interactive login from a non TTY device: use --username and --password-stdin".to_owned(),
        ));
    }
    let username = match username {
        Some(name) => name,
        None => {
            prompt(session, "Username: ")?;
            line(session)?
        }
    };
    if username.is_empty() {
        return Err(Error::Invalid("username is required".to_owned()));
    }
    let password = match password {
        Some(password) => password,
        None => {
            prompt(session, "Password: ")?;
            let hidden = crate::terminal::hide_input(&session.io.stdin)?;
            let typed = line(session);
            drop(hidden);
            session.print("\n")?;
            typed?
        }
    };
    if password.is_empty() {
        return Err(Error::Invalid("password is required".to_owned()));
    }
    Ok(credentials(server, &username, password))
}

fn prompt(session: &Session, text: &str) -> Result<(), Error> {
    (&session.io.stdout).write_all(text.as_bytes()).map_err(Error::io("ask"))
}

fn line(session: &Session) -> Result<String, Error> {
    let mut text = String::new();
    BufReader::new((&session.io.stdin).take(MOST)).read_line(&mut text).map_err(Error::io("read the answer"))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}
