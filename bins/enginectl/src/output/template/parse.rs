//! Template text to nodes.

use std::collections::BTreeMap;

use super::{Error, Position};

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    If {
        branches: Vec<(Pipeline, Vec<Self>)>,
        otherwise: Vec<Self>,
    },
    With {
        branches: Vec<(Pipeline, Vec<Self>)>,
        otherwise: Vec<Self>,
    },
    Range {
        over: Pipeline,
        body: Vec<Self>,
        otherwise: Vec<Self>,
    },
    Break,
    Continue,
    /// What stands elsewhere under this name, about what the pipeline gives; and how that is written.
    Call {
        name: String,
        about: Option<Pipeline>,
        source: String,
        position: Position,
    },
}

/// What a source has: what is shown, and what is defined to be called by name.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) nodes: Vec<Node>,
    pub(super) named: BTreeMap<String, Vec<Node>>,
}

/// Commands whose result is the last argument of the next, and the variables that keep the last result.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) variables: Vec<String>,
    pub(super) declares: bool,
    pub(super) commands: Vec<Command>,
    pub(super) position: Position,
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) operands: Vec<Operand>,
    pub(super) position: Position,
}

#[derive(Debug)]
pub(super) struct Operand {
    pub(super) kind: Kind,
    /// The fields that follow: `.a.b`.
    pub(super) fields: Vec<String>,
    pub(super) position: Position,
}

#[derive(Debug)]
pub(super) enum Kind {
    Dot,
    Variable(String),
    String(String),
    Number(String),
    Bool(bool),
    Nil,
    Function(String),
    Group(Box<Pipeline>),
}

/// Templates nest no deeper than this.
const DEPTH: usize = 100;

pub(super) fn parse(source: &str) -> Result<Parsed, Error> {
    let mut parser = Parser { source, pieces: split(source)?.into_iter().peekable(), named: BTreeMap::new() };
    let (nodes, end) = parser.nodes(0, false)?;
    match end {
        None => Ok(Parsed { nodes, named: parser.named }),
        Some(stop) => Err(stop.position.error(format!("unexpected {{{{{}}}}}", stop.word))),
    }
}

enum Piece<'a> {
    Text(String),
    Action(&'a str, usize),
}

/// Cuts the source into text and actions, with `{{-` and `-}}` done and comments gone.
fn split(source: &str) -> Result<Vec<Piece<'_>>, Error> {
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut trim_next = false;
    loop {
        let open = source[at..].find("{{").map(|found| at + found);
        let mut text = &source[at..open.unwrap_or(source.len())];
        if trim_next {
            text = text.trim_start();
        }
        let Some(open) = open else {
            if !text.is_empty() {
                pieces.push(Piece::Text(text.to_owned()));
            }
            return Ok(pieces);
        };
        let mut start = open + 2;
        let body = &source[start..];
        if body.starts_with('-') && body[1..].starts_with(|c: char| c.is_ascii_whitespace()) {
            text = text.trim_end();
            start += 1;
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
        let close = close_of(source, start).ok_or_else(|| Position::of(source, open).error("unclosed action"))?;
        let mut inner = &source[start..close];
        trim_next = inner.len() >= 2 && inner.ends_with('-') && inner[..inner.len() - 1].ends_with(char::is_whitespace);
        if trim_next {
            inner = &inner[..inner.len() - 1];
        }
        let trimmed = inner.trim();
        if trimmed.starts_with("/*") {
            if !trimmed.ends_with("*/") {
                return Err(Position::of(source, open).error("unclosed comment"));
            }
        } else {
            pieces.push(Piece::Action(inner, start));
        }
        at = close + 2;
    }
}

/// Where the `}}` of an action is, strings passed over.
fn close_of(source: &str, start: usize) -> Option<usize> {
    let bytes = source.as_bytes();
    if source[start..].trim_start().starts_with("/*") {
        let end = start + source[start..].find("*/")?;
        return source[end..].find("}}").map(|found| end + found);
    }
    let mut at = start;
    let mut quote = None;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            (None, open @ (b'"' | b'`' | b'\'')) => quote = Some(open),
            (Some(b'"' | b'\''), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The keyword that ended a list of nodes.
struct Stop {
    word: &'static str,
    /// `else if X` or `else with X`: the word and the rest.
    chained: Option<(&'static str, Pipeline)>,
    position: Position,
}

struct Parser<'a, I: Iterator<Item = Piece<'a>>> {
    source: &'a str,
    pieces: std::iter::Peekable<I>,
    named: BTreeMap<String, Vec<Node>>,
}

impl<'a, I: Iterator<Item = Piece<'a>>> Parser<'a, I> {
    fn nodes(&mut self, depth: usize, in_range: bool) -> Result<(Vec<Node>, Option<Stop>), Error> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (action, offset) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(action, offset) => (action, offset),
            };
            let mut tokens = Tokens::new(self.source, action, offset)?;
            let position = tokens.position();
            if depth > DEPTH {
                return Err(position.error("nested too deeply"));
            }
            let Some(word) = tokens.keyword() else {
                let pipeline = tokens.pipeline(0)?;
                tokens.finish()?;
                nodes.push(Node::Print(pipeline));
                continue;
            };
            match word {
                "if" | "with" => {
                    let condition = tokens.pipeline(0)?;
                    tokens.finish()?;
                    nodes.push(self.branches(word, condition, position, depth, in_range)?);
                }
                "range" => {
                    let over = tokens.pipeline(0)?;
                    tokens.finish()?;
                    let (body, stop) = self.nodes(depth + 1, true)?;
                    let (otherwise, stop) = match stop {
                        Some(Stop { word: "else", chained: None, .. }) => self.nodes(depth + 1, in_range)?,
                        stop => (Vec::new(), stop),
                    };
                    expect_end(stop, position, "range")?;
                    nodes.push(Node::Range { over, body, otherwise });
                }
                "else" => {
                    let chained = match tokens.keyword() {
                        None => None,
                        Some(word @ ("if" | "with")) => Some((word, tokens.pipeline(0)?)),
                        Some(other) => return Err(position.error(format!("unexpected {{{{else {other}}}}}"))),
                    };
                    tokens.finish()?;
                    return Ok((nodes, Some(Stop { word, chained, position })));
                }
                "end" => {
                    tokens.finish()?;
                    return Ok((nodes, Some(Stop { word, chained: None, position })));
                }
                "define" if depth == 0 => {
                    let name = tokens.name("define")?;
                    tokens.finish()?;
                    self.define(name, position, depth)?;
                }
                "define" => return Err(position.error("unexpected <define> in command")),
                "template" => {
                    let position = tokens.position();
                    let name = tokens.name("template")?;
                    let about = if tokens.peek().is_some() { Some(tokens.pipeline(0)?) } else { None };
                    tokens.finish()?;
                    nodes.push(Node::Call { name, about, source: action.trim().to_owned(), position });
                }
                "block" => {
                    let name = tokens.name("block")?;
                    let about = Some(tokens.pipeline(0)?);
                    tokens.finish()?;
                    self.define(name.clone(), position, depth)?;
                    nodes.push(Node::Call { name, about, source: action.trim().to_owned(), position });
                }
                "break" | "continue" if in_range => {
                    tokens.finish()?;
                    nodes.push(if word == "break" { Node::Break } else { Node::Continue });
                }
                "break" | "continue" => return Err(position.error(format!("{{{{{word}}}}} outside {{{{range}}}}"))),
                _ => return Err(position.error(format!("{{{{{word}}}}} is not supported"))),
            }
        }
        Ok((nodes, None))
    }

    /// What comes until the end belongs to this name. Only what is empty is given up for another.
    fn define(&mut self, name: String, position: Position, depth: usize) -> Result<(), Error> {
        let (body, stop) = self.nodes(depth + 1, false)?;
        expect_end(stop, position, "define")?;
        let is_empty =
            |nodes: &[Node]| nodes.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()));
        match self.named.get(&name) {
            Some(known) if !is_empty(known) && !is_empty(&body) => {
                return Err(position.error(format!("multiple definition of template {name:?}")));
            }
            Some(known) if !is_empty(known) => {}
            _ => {
                self.named.insert(name, body);
            }
        }
        Ok(())
    }

    fn branches(
        &mut self,
        word: &'static str,
        condition: Pipeline,
        position: Position,
        depth: usize,
        in_range: bool,
    ) -> Result<Node, Error> {
        let mut branches = Vec::new();
        let mut condition = condition;
        let otherwise = loop {
            let (body, stop) = self.nodes(depth + 1, in_range)?;
            branches.push((condition, body));
            match stop {
                Some(Stop { word: "else", chained: None, .. }) => {
                    let (otherwise, stop) = self.nodes(depth + 1, in_range)?;
                    expect_end(stop, position, word)?;
                    break otherwise;
                }
                Some(Stop { word: "else", chained: Some((chained, next)), position: at }) => {
                    if chained != word {
                        return Err(at.error(format!("unexpected {{{{else {chained}}}}} in {{{{{word}}}}}")));
                    }
                    condition = next;
                }
                stop => {
                    expect_end(stop, position, word)?;
                    break Vec::new();
                }
            }
        };
        Ok(if word == "if" { Node::If { branches, otherwise } } else { Node::With { branches, otherwise } })
    }
}

fn expect_end(stop: Option<Stop>, opened: Position, word: &str) -> Result<(), Error> {
    match stop {
        Some(Stop { word: "end", .. }) => Ok(()),
        Some(stop) => Err(stop.position.error(format!("expected {{{{end}}}}; found {{{{{}}}}}", stop.word))),
        None => Err(opened.error(format!("unexpected EOF: {{{{{word}}}}} has no {{{{end}}}}"))),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    /// `.` alone.
    Dot,
    /// `.name`.
    Field(String),
    /// `$` or `$name`.
    Variable(String),
    String(String),
    Number(String),
    Pipe,
    Open,
    Close,
    Comma,
    Declare,
    Assign,
}

struct Tokens<'a> {
    source: &'a str,
    /// Token, offset in the source, whether white space stood before it.
    list: Vec<(Token, usize, bool)>,
    at: usize,
    end: usize,
}

const KEYWORDS: &[&str] = &["if", "else", "end", "range", "with", "break", "continue", "define", "template", "block"];

impl<'a> Tokens<'a> {
    fn new(source: &'a str, action: &'a str, offset: usize) -> Result<Self, Error> {
        let list = lex(source, action, offset)?;
        let tokens = Self { source, list, at: 0, end: offset + action.len() };
        if tokens.list.is_empty() {
            return Err(Position::of(source, offset).error("missing value for command"));
        }
        Ok(tokens)
    }

    fn position(&self) -> Position {
        Position::of(self.source, self.list.get(self.at).map_or(self.end, |(_, offset, _)| *offset))
    }

    fn peek(&self) -> Option<&Token> {
        self.list.get(self.at).map(|(token, ..)| token)
    }

    fn spaced(&self) -> bool {
        self.list.get(self.at).is_none_or(|(_, _, spaced)| *spaced)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.at += usize::from(token.is_some());
        token
    }

    fn keyword(&mut self) -> Option<&'static str> {
        let Some(Token::Word(word)) = self.peek() else { return None };
        let word = KEYWORDS.iter().find(|keyword| *keyword == word)?;
        self.at += 1;
        Some(word)
    }

    /// The name of a template, in quotes.
    fn name(&mut self, clause: &str) -> Result<String, Error> {
        let position = self.position();
        match self.next() {
            Some(Token::String(name)) => Ok(name),
            Some(token) => Err(position.error(format!("unexpected {} in {clause} clause", shown(&token)))),
            None => Err(position.error(format!("unexpected \"}}}}\" in {clause} clause"))),
        }
    }

    fn finish(&self) -> Result<(), Error> {
        match self.peek() {
            None => Ok(()),
            Some(token) => Err(self.position().error(format!("unexpected {} in command", shown(token)))),
        }
    }

    fn pipeline(&mut self, depth: usize) -> Result<Pipeline, Error> {
        let position = self.position();
        if depth > DEPTH {
            return Err(position.error("nested too deeply"));
        }
        let (variables, declares) = self.variables();
        let mut commands = vec![self.command(depth)?];
        while self.peek() == Some(&Token::Pipe) {
            self.at += 1;
            commands.push(self.command(depth)?);
        }
        Ok(Pipeline { variables, declares, commands, position })
    }

    /// `$x :=`, `$x =` or `$i, $x :=`, if that is what comes.
    fn variables(&mut self) -> (Vec<String>, bool) {
        let start = self.at;
        let mut names = Vec::new();
        while let Some(Token::Variable(name)) = self.peek().cloned() {
            self.at += 1;
            names.push(name);
            match self.next() {
                Some(Token::Comma) if names.len() == 1 => {}
                Some(Token::Declare) => return (names, true),
                Some(Token::Assign) => return (names, false),
                _ => break,
            }
        }
        self.at = start;
        (Vec::new(), false)
    }

    fn command(&mut self, depth: usize) -> Result<Command, Error> {
        let position = self.position();
        let mut operands = Vec::new();
        while !matches!(self.peek(), None | Some(Token::Pipe | Token::Close)) {
            if !operands.is_empty() && !self.spaced() {
                let token = self.peek().map(shown).unwrap_or_default();
                return Err(self.position().error(format!("unexpected {token} in operand")));
            }
            operands.push(self.operand(depth)?);
        }
        if operands.is_empty() {
            return Err(position.error("missing value for command"));
        }
        Ok(Command { operands, position })
    }

    fn operand(&mut self, depth: usize) -> Result<Operand, Error> {
        let position = self.position();
        let mut fields = Vec::new();
        let kind = match self.next() {
            Some(Token::Dot) => Kind::Dot,
            Some(Token::Field(name)) => {
                fields.push(name);
                Kind::Dot
            }
            Some(Token::Variable(name)) => Kind::Variable(name),
            Some(Token::String(text)) => Kind::String(text),
            Some(Token::Number(digits)) => Kind::Number(digits),
            Some(Token::Word(word)) => match word.as_str() {
                "true" => Kind::Bool(true),
                "false" => Kind::Bool(false),
                "nil" => Kind::Nil,
                _ if super::functions::exists(&word) => Kind::Function(word),
                _ => return Err(position.error(format!("function {word:?} not defined"))),
            },
            Some(Token::Open) => {
                let inner = self.pipeline(depth + 1)?;
                if self.next() != Some(Token::Close) {
                    return Err(position.error("unclosed left paren"));
                }
                Kind::Group(Box::new(inner))
            }
            Some(token) => return Err(position.error(format!("unexpected {} in operand", shown(&token)))),
            None => return Err(position.error("missing value for command")),
        };
        while let Some(Token::Field(name)) = self.peek()
            && !self.spaced()
        {
            fields.push(name.clone());
            self.at += 1;
        }
        Ok(Operand { kind, fields, position })
    }
}

fn shown(token: &Token) -> String {
    match token {
        Token::Word(word) => format!("<{word}>"),
        Token::Dot => "<.>".to_owned(),
        Token::Field(name) => format!("<.{name}>"),
        Token::Variable(name) => format!("<${name}>"),
        Token::String(text) => format!("{text:?}"),
        Token::Number(digits) => digits.clone(),
        Token::Pipe => "|".to_owned(),
        Token::Open => "(".to_owned(),
        Token::Close => "right paren".to_owned(),
        Token::Comma => ",".to_owned(),
        Token::Declare => ":=".to_owned(),
        Token::Assign => "=".to_owned(),
    }
}

fn lex(source: &str, action: &str, offset: usize) -> Result<Vec<(Token, usize, bool)>, Error> {
    let mut list = Vec::new();
    let mut at = 0;
    let mut spaced = true;
    while let Some(first) = action[at..].chars().next() {
        let start = at;
        let error = |text: String| Position::of(source, offset + start).error(text);
        if first.is_whitespace() {
            at += first.len_utf8();
            spaced = true;
            continue;
        }
        let name_end = |from: usize| {
            from + action[from..].find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(action.len() - from)
        };
        let token = match first {
            '|' => Token::Pipe,
            '(' => Token::Open,
            ')' => Token::Close,
            ',' => Token::Comma,
            '=' => Token::Assign,
            ':' if action[at + 1..].starts_with('=') => {
                at += 1;
                Token::Declare
            }
            '.' if !action[at + 1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let end = name_end(at + 1);
                if end == at + 1 {
                    Token::Dot
                } else {
                    let name = action[at + 1..end].to_owned();
                    at = end - 1;
                    Token::Field(name)
                }
            }
            '$' => {
                let end = name_end(at + 1);
                let name = action[at + 1..end].to_owned();
                at = end - 1;
                Token::Variable(name)
            }
            '"' | '`' | '\'' => {
                let (text, length) = quoted(&action[at..]).map_err(error)?;
                at += length - 1;
                if first == '\'' {
                    let mut characters = text.chars();
                    match (characters.next(), characters.next()) {
                        (Some(character), None) => Token::Number((character as u32).to_string()),
                        _ => return Err(error("malformed character constant".to_owned())),
                    }
                } else {
                    Token::String(text)
                }
            }
            _ if first.is_ascii_digit() || matches!(first, '.' | '-' | '+') => {
                let length = action[at + 1..]
                    .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_'))
                    .unwrap_or(action.len() - at - 1);
                let text = &action[at..at + 1 + length];
                at += length;
                Token::Number(number(text).ok_or_else(|| error(format!("bad number syntax: {text:?}")))?)
            }
            _ if first.is_alphabetic() || first == '_' => {
                let end = name_end(at);
                let word = action[at..end].to_owned();
                at = end - 1;
                // The last character may be longer than a byte.
                at -= action[start..end].chars().next_back().map_or(0, char::len_utf8) - 1;
                Token::Word(word)
            }
            other => return Err(error(format!("unexpected {other:?} in command"))),
        };
        let last = action[at..].chars().next().map_or(1, char::len_utf8);
        at += last;
        list.push((token, offset + start, spaced));
        spaced = false;
    }
    Ok(list)
}

fn number(text: &str) -> Option<String> {
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", plain.strip_prefix('+').unwrap_or(&plain)),
    };
    if let Some(hex) = digits.strip_prefix("0x") {
        return Some(format!("{sign}{}", i64::from_str_radix(hex, 16).ok()?));
    }
    if let Ok(whole) = digits.parse::<i64>() {
        return Some(format!("{sign}{whole}"));
    }
    let float: f64 = digits.parse().ok()?;
    float.is_finite().then(|| format!("{sign}{float}"))
}

/// A quoted string at the head of the text: its meaning and its length in the source.
fn quoted(text: &str) -> Result<(String, usize), String> {
    let mut characters = text.char_indices();
    let Some((_, quote)) = characters.next() else { return Err("unterminated quoted string".to_owned()) };
    let mut out = String::new();
    while let Some((index, character)) = characters.next() {
        if character == quote {
            return Ok((out, index + quote.len_utf8()));
        }
        if character != '\\' || quote == '`' {
            out.push(character);
            continue;
        }
        let mut hex = |digits: usize| -> Option<char> {
            let code: String = characters.by_ref().take(digits).map(|(_, digit)| digit).collect();
            char::from_u32(u32::from_str_radix(&code, 16).ok()?)
        };
        let escaped = match text[index + 1..].chars().next() {
            Some('x') => {
                hex(1);
                hex(2)
            }
            Some('u') => {
                hex(1);
                hex(4)
            }
            Some(plain) => {
                hex(1);
                match plain {
                    'n' => Some('\n'),
                    't' => Some('\t'),
                    'r' => Some('\r'),
                    '0' => Some('\0'),
                    '\\' | '"' | '\'' => Some(plain),
                    _ => None,
                }
            }
            None => None,
        };
        out.push(escaped.ok_or_else(|| "invalid syntax in string: unknown escape".to_owned())?);
    }
    Err("unterminated quoted string".to_owned())
}
