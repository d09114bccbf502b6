//! Nodes and a value to text.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::functions;
use super::parse::{Command, Kind, Node, Operand, Parsed, Pipeline};
use super::{Error, Position, zero};
use crate::output::value::Value;

/// What the root is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner<'a> {
    /// What `.Label` looks into.
    pub(super) labels: Option<&'a Value>,
    /// The root is the names of columns.
    pub(super) header: bool,
    /// The root is an object of the API.
    pub(super) object: bool,
}

pub(super) fn render(parsed: &Parsed, root: &Value, manner: Manner<'_>) -> Result<String, Error> {
    let variables = vec![(String::new(), root.clone())];
    let mut state = State { out: String::new(), variables, named: &parsed.named, depth: 0, manner };
    state.walk(&parsed.nodes, root)?;
    Ok(state.out)
}

/// Templates of a few characters must not fill the memory.
const MAXIMUM_OUTPUT: usize = 64 << 20;
/// Nor may one that calls itself fill the stack.
const MAXIMUM_DEPTH: usize = 200;

enum Flow {
    On,
    Break,
    Continue,
}

struct State<'a> {
    out: String,
    /// Name without `$`, value; the innermost last. The root is `$` alone.
    variables: Vec<(String, Value)>,
    /// Templates that are called by name.
    named: &'a BTreeMap<String, Vec<Node>>,
    /// How many lists of nodes are being walked through, one in the other.
    depth: usize,
    manner: Manner<'a>,
}

impl State<'_> {
    fn walk(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, Error> {
        self.depth += 1;
        let flow = self.walk_on(nodes, dot);
        self.depth -= 1;
        flow
    }

    fn walk_on(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, Error> {
        let depth = self.variables.len();
        for node in nodes {
            let flow = self.node(node, dot)?;
            if !matches!(flow, Flow::On) {
                self.variables.truncate(depth);
                return Ok(flow);
            }
        }
        self.variables.truncate(depth);
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, Error> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    match (value, only_field(pipeline)) {
                        (Value::Null, Some(name)) if self.manner.object => self.out.push_str(zero::printed(name)),
                        (value, _) => self.out.push_str(&value.to_string()),
                    }
                    if self.out.len() > MAXIMUM_OUTPUT {
                        return Err(pipeline.position.error("the output is too long"));
                    }
                }
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::If { branches, otherwise } => return self.choose(branches, otherwise, dot, false),
            Node::With { branches, otherwise } => return self.choose(branches, otherwise, dot, true),
            Node::Range { over, body, otherwise } => return self.range(over, body, otherwise, dot),
            Node::Call { name, about, source, position } => {
                let fail = |text: String| position.error(format!("executing \"\" at <{{{{{source}}}}}>: {text}"));
                let Some(nodes) = self.named.get(name) else {
                    return Err(fail(format!("template {name:?} not defined")));
                };
                if self.depth >= MAXIMUM_DEPTH {
                    return Err(fail(format!("exceeded maximum template depth ({MAXIMUM_DEPTH})")));
                }
                let root = match about {
                    Some(about) => self.pipeline(about, dot)?,
                    None => Value::Null,
                };
                // It sees no variable of where it is called.
                let outer = std::mem::replace(&mut self.variables, vec![(String::new(), root.clone())]);
                self.walk(nodes, &root)?;
                self.variables = outer;
            }
        }
        Ok(Flow::On)
    }

    fn choose(
        &mut self,
        branches: &[(Pipeline, Vec<Node>)],
        otherwise: &[Node],
        dot: &Value,
        rebind: bool,
    ) -> Result<Flow, Error> {
        let depth = self.variables.len();
        for (condition, body) in branches {
            let value = self.pipeline(condition, dot)?;
            if value.is_true() {
                let flow = self.walk(body, if rebind { &value } else { dot });
                self.variables.truncate(depth);
                return flow;
            }
        }
        let flow = self.walk(otherwise, dot);
        self.variables.truncate(depth);
        flow
    }

    fn range(&mut self, over: &Pipeline, body: &[Node], otherwise: &[Node], dot: &Value) -> Result<Flow, Error> {
        let depth = self.variables.len();
        let value = self.commands(over, dot)?;
        let items: Vec<(Value, Value)> = match value {
            Value::Array(items) => {
                items.into_iter().enumerate().map(|(index, item)| (Value::from(index as i64), item)).collect()
            }
            Value::Object(_) => value
                .sorted_members()
                .into_iter()
                .map(|(name, item)| (Value::from(name.as_str()), item.clone()))
                .collect(),
            Value::Null => Vec::new(),
            Value::Number(ref digits) => {
                let count: i64 =
                    digits.parse().map_err(|_| over.position.error(format!("range can't iterate over {value}")))?;
                (0..count.clamp(0, 1_000_000)).map(|index| (Value::from(index), Value::from(index))).collect()
            }
            Value::Bool(_) | Value::String(_) => {
                return Err(over.position.error(format!("range can't iterate over {value}")));
            }
        };
        if items.is_empty() {
            return self.walk(otherwise, dot);
        }
        for (key, item) in items {
            match over.variables.as_slice() {
                [only] => self.variables.push((only.clone(), item.clone())),
                [first, second] => {
                    self.variables.push((first.clone(), key));
                    self.variables.push((second.clone(), item.clone()));
                }
                _ => {}
            }
            let flow = self.walk(body, &item)?;
            self.variables.truncate(depth);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::On)
    }

    /// The value of a pipeline, kept in its variable if it names one.
    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, Error> {
        let value = self.commands(pipeline, dot)?;
        if let [name] = pipeline.variables.as_slice() {
            if pipeline.declares {
                self.variables.push((name.clone(), value.clone()));
            } else {
                match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
                    Some((_, slot)) => *slot = value.clone(),
                    None => return Err(pipeline.position.error(format!("undefined variable \"${name}\""))),
                }
            }
        } else if !pipeline.variables.is_empty() {
            return Err(pipeline.position.error("too many declarations in command"));
        }
        Ok(value)
    }

    fn commands(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, Error> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, dot, value)?);
        }
        Ok(value.unwrap_or(Value::Null))
    }

    fn command(&mut self, command: &Command, dot: &Value, piped: Option<Value>) -> Result<Value, Error> {
        let Some((first, rest)) = command.operands.split_first() else {
            return Err(command.position.error("missing value for command"));
        };
        match &first.kind {
            Kind::Function(name) => self.call(name, first, rest, dot, piped),
            Kind::Dot
                if first.fields.last().is_some_and(|field| field == "Label")
                    && (self.manner.header || self.manner.labels.is_some()) =>
            {
                let mut arguments = self.operands(rest, dot)?;
                arguments.extend(piped);
                let [Value::String(name)] = arguments.as_slice() else {
                    return Err(first.position.error("Label wants one argument, the name of a label"));
                };
                if self.manner.header {
                    let last = name.rsplit('.').next().unwrap_or_default();
                    return Ok(Value::from(last.replace(['-', '_'], " ")));
                }
                let label = self.manner.labels.and_then(|labels| labels.get(name));
                Ok(label.cloned().unwrap_or_else(|| Value::from("")))
            }
            _ if rest.is_empty() && piped.is_none() => self.operand(first, dot),
            _ => Err(first.position.error(format!("can't give argument to non-function {}", name_of(first)))),
        }
    }

    fn call(
        &mut self,
        name: &str,
        operand: &Operand,
        rest: &[Operand],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, Error> {
        // These two stop at the first argument that decides.
        if name == "and" || name == "or" {
            let mut last = None;
            for argument in rest {
                let value = self.operand(argument, dot)?;
                let decided = value.is_true() == (name == "or");
                last = Some(value);
                if decided {
                    break;
                }
            }
            let decided = last.as_ref().is_some_and(|value| value.is_true() == (name == "or"));
            let value = if decided { last } else { piped.or(last) };
            return value.ok_or_else(|| {
                operand.position.error(format!("wrong number of args for {name}: want at least 1 got 0"))
            });
        }
        let mut arguments = self.operands(rest, dot)?;
        arguments.extend(piped);
        // Nothing that the daemon tells is a function.
        if name == "call"
            && let Some(first) = arguments.first()
        {
            let text = match first {
                Value::Null => "call of nil".to_owned(),
                value => {
                    let shown = rest.first().map_or_else(|| value.to_string(), name_of);
                    format!("non-function {shown} of type {}", functions::go_type(value))
                }
            };
            return Err(operand.position.error(format!("executing \"\" at <call>: error calling call: {text}")));
        }
        let value = functions::call(name, &arguments).map_err(|text| {
            operand.position.error(format!("executing \"\" at <{name}>: error calling {name}: {text}"))
        })?;
        fields(value, &operand.fields, operand, self.manner.object)
    }

    fn operands(&mut self, operands: &[Operand], dot: &Value) -> Result<Vec<Value>, Error> {
        operands.iter().map(|operand| self.operand(operand, dot)).collect()
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, Error> {
        let value = match &operand.kind {
            Kind::Dot => return fields_of(dot, &operand.fields, operand, self.manner.object),
            Kind::Variable(name) => match self.variables.iter().rev().find(|(known, _)| known == name) {
                Some((_, value)) => return fields_of(value, &operand.fields, operand, self.manner.object),
                None => return Err(operand.position.error(format!("undefined variable \"${name}\""))),
            },
            Kind::String(text) => Value::from(text.as_str()),
            Kind::Number(digits) => Value::Number(digits.clone()),
            Kind::Bool(flag) => Value::from(*flag),
            Kind::Nil => Value::Null,
            Kind::Function(name) => return self.call(name, operand, &[], dot, None),
            Kind::Group(pipeline) => self.pipeline(pipeline, dot)?,
        };
        fields(value, &operand.fields, operand, self.manner.object)
    }
}

/// The last field of a pipeline that is nothing but one.
fn only_field(pipeline: &Pipeline) -> Option<&str> {
    match pipeline.commands.as_slice() {
        [Command { operands, .. }] if operands.len() == 1 => operands[0].fields.last().map(String::as_str),
        _ => None,
    }
}

fn fields(value: Value, names: &[String], operand: &Operand, object: bool) -> Result<Value, Error> {
    if names.is_empty() { Ok(value) } else { fields_of(&value, names, operand, object) }
}

fn fields_of(value: &Value, names: &[String], operand: &Operand, object: bool) -> Result<Value, Error> {
    let mut value = Cow::Borrowed(value);
    for (at, name) in names.iter().enumerate() {
        let fail = |text: String| {
            // Where this field begins; what is before the fields is only in these as long as it is shown.
            let head = match &operand.kind {
                Kind::Dot => Some(0),
                Kind::Variable(variable) => Some(variable.len() + 1),
                _ => None,
            };
            let before = names[..at].iter().map(|name| name.len() + 1).sum::<usize>();
            let column = operand.position.column + head.map_or(0, |head| head + before);
            let position = Position { column, ..operand.position };
            position.error(format!("executing \"\" at <{}>: {text}", name_of(operand)))
        };
        let zero;
        let next = match value.as_ref() {
            Value::Object(_) => match value.field(name) {
                Some(member) => member,
                None => {
                    let missing = if object { zero::of_missing(name) } else { None };
                    zero = missing.ok_or_else(|| fail(format!("map has no entry for key \"{name}\"")))?;
                    &zero
                }
            },
            Value::Null => return Err(fail(format!("nil pointer evaluating interface {{}}.{name}"))),
            other => return Err(fail(format!("can't evaluate field {name} in {}", kind(other)))),
        };
        value = Cow::Owned(next.clone());
    }
    Ok(value.into_owned())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn name_of(operand: &Operand) -> String {
    let head = match &operand.kind {
        Kind::Dot if operand.fields.is_empty() => ".".to_owned(),
        Kind::Dot => String::new(),
        Kind::Variable(name) => format!("${name}"),
        Kind::String(text) => format!("{text:?}"),
        Kind::Number(digits) => digits.clone(),
        Kind::Bool(flag) => flag.to_string(),
        Kind::Nil => "nil".to_owned(),
        Kind::Function(name) => name.clone(),
        Kind::Group(_) => "(...)".to_owned(),
    };
    operand.fields.iter().fold(head, |name, field| format!("{name}.{field}"))
}
