//! Running a template that may be hostile.
//!
//! minijinja's fuel counts instructions, but one instruction can double a string. So the compiled template is rewritten
//! before it runs: after every instruction that makes a value, a call is put in that charges the size of that value to a
//! budget, checks its depth and looks at the clock, and all output goes through the formatter, which charges it too. This needs
//! minijinja's unstable interface, which is why its version is pinned.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use minijinja::machinery::{
    CodeGenerator, Instruction, Instructions, Token, Vm, WhitespaceConfig, make_string_output, parse, tokenize,
};
use minijinja::value::{Kwargs, Rest, ValueKind, ValueKind as K};
use minijinja::{AutoEscape, Environment, Error as Failure, ErrorKind, FormatStyle, Value};

use super::clock::strftime;
use super::python;
use crate::error::Error;

/// Instructions, for a template without input. A conversation of 1,000 messages takes the largest templates about a million.
const STEPS: u64 = 20_000_000;

/// Wall time. Published templates take a millisecond.
const TIME: Duration = Duration::from_secs(10);

/// Bytes of all values that a template makes, for an empty input; and for each byte of the input.
const BYTES: usize = 16 << 20;
const BYTES_PER_INPUT_BYTE: usize = 32;

/// Levels of lists in lists. JSON from outside has at most 128.
const DEPTH: usize = 200;

/// Tokens between one pair of delimiters, and `elif`s in all: each may be a level of recursion in the compiler.
const TOKENS_IN_A_TAG: usize = 5_000;
const ELIFS: usize = 2_000;

/// Bytes of texts and lists that the compiler may make by repeating literals.
const LITERAL_BYTES: u64 = 1 << 20;

/// Stack of the thread. Enough for the limits above in a build without optimisation.
const STACK: usize = 64 << 20;

/// The names that a rewritten template calls. No template can spell them.
const CHARGE: &str = "\0charge";
const STORABLE: &str = "\0storable";
const CONCAT: &str = "\0concat";

/// What a run has used of its budget, and why it was stopped.
#[derive(Debug)]
pub(super) struct Meter {
    bytes: AtomicUsize,
    limit: usize,
    deadline: Instant,
    stopped: Mutex<Option<Stop>>,
}

#[derive(Debug, Clone)]
enum Stop {
    Refused(String),
    Limit(String),
}

impl Meter {
    pub(super) fn for_input(bytes: usize) -> Self {
        Self {
            bytes: AtomicUsize::new(0),
            limit: BYTES.saturating_add(bytes.saturating_mul(BYTES_PER_INPUT_BYTE)),
            deadline: Instant::now() + TIME,
            stopped: Mutex::new(None),
        }
    }

    fn stop(&self, stop: Stop) -> Failure {
        let mut stopped = self.stopped.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let message = match &stop {
            Stop::Refused(message) => message.clone(),
            Stop::Limit(limit) => format!("exceeds its {limit}"),
        };
        // The first reason counts: a template may call on while it is failing.
        stopped.get_or_insert(stop);
        python::invalid(message)
    }

    fn over(&self) -> Failure {
        self.stop(Stop::Limit(format!("memory of {} bytes", self.limit)))
    }

    /// Whether a value of this size may be made.
    pub(super) fn fits(&self, bytes: usize) -> Result<(), Failure> {
        match self.bytes.load(Ordering::Relaxed).saturating_add(bytes) > self.limit {
            true => Err(self.over()),
            false => Ok(()),
        }
    }

    /// A width, indent or count that may be made into so many characters.
    pub(super) fn width(&self, width: i64) -> Result<usize, Failure> {
        match usize::try_from(width.max(0)) {
            Ok(width) if width <= 10_000 => Ok(width),
            _ => Err(self.stop(Stop::Limit("width of 10000 characters".into()))),
        }
    }

    fn spend(&self, bytes: usize) -> Result<(), Failure> {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.limit {
            return Err(self.over());
        }
        if Instant::now() > self.deadline {
            return Err(self.stop(Stop::Limit(format!("time of {} s", TIME.as_secs()))));
        }
        Ok(())
    }

    /// Charges a new value. Texts inside lists are shared, so they count as entries only.
    fn charge(&self, value: &Value) -> Result<(), Failure> {
        match value.as_str() {
            Some(text) => self.spend(text.len()),
            None => {
                self.spend(8)?;
                self.measure(value, 0).map(drop)
            }
        }
    }

    /// Charges all entries and checks the depth. Returns whether there is a namespace inside.
    fn measure(&self, value: &Value, depth: usize) -> Result<bool, Failure> {
        if depth > DEPTH {
            return Err(self.stop(Stop::Limit(format!("depth of {DEPTH} levels"))));
        }
        let Some(object) = value.as_object() else { return Ok(false) };
        let mut has_namespace = object.type_name().ends_with("Namespace");
        match value.kind() {
            ValueKind::Seq => {
                // The length is known before the items exist (`[0] * 10**9`).
                self.spend(value.len().unwrap_or_default().saturating_mul(32))?;
                for item in value.try_iter()? {
                    if item.as_object().is_some() {
                        has_namespace |= self.measure(&item, depth + 1)?;
                    }
                }
            }
            ValueKind::Map => {
                self.spend(value.len().unwrap_or_default().saturating_mul(64))?;
                for (_, item) in object.try_iter_pairs().into_iter().flatten() {
                    if item.as_object().is_some() {
                        has_namespace |= self.measure(&item, depth + 1)?;
                    }
                }
            }
            _ => self.spend(value.len().unwrap_or_default().saturating_mul(32))?,
        }
        Ok(has_namespace)
    }
}

/// Checks that a template can be compiled.
pub(super) fn check(origin: &str, source: &str) -> Result<(), Error> {
    on_a_large_stack(origin, || {
        let source = prepared(source);
        limit_compilation(origin, &source)?;
        compile(&source).map(drop).map_err(|source| Error::TemplateSyntax { origin: origin.into(), source })
    })
}

/// Renders a template that was checked.
pub(super) fn run(origin: &str, source: &str, variables: serde_json::Value, now: SystemTime) -> Result<String, Error> {
    on_a_large_stack(origin, || {
        let source = prepared(source);
        let meter = Arc::new(Meter::for_input(size(&variables, 0).ok_or_else(|| Error::TemplateLimit {
            origin: origin.into(),
            limit: format!("input depth of {DEPTH} levels"),
        })?));
        let environment = environment(&meter, now);
        let failed = |failure: Failure| {
            let stopped = meter.stopped.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
            match stopped {
                Some(Stop::Refused(message)) => Error::TemplateRefused { message },
                Some(Stop::Limit(limit)) => Error::TemplateLimit { origin: origin.into(), limit },
                None if failure.kind() == ErrorKind::OutOfFuel => {
                    Error::TemplateLimit { origin: origin.into(), limit: format!("limit of {STEPS} steps") }
                }
                None => Error::TemplateFailed { origin: origin.into(), source: failure },
            }
        };
        let (instructions, blocks) = compile(&source).map_err(failed)?;
        let mut text = String::new();
        let mut output = make_string_output(&mut text);
        let variables = Value::from_serialize(&variables);
        Vm::new(&environment).eval(&instructions, variables, &blocks, &mut output, AutoEscape::None).map_err(failed)?;
        drop(output);
        Ok(text)
    })
}

/// Bytes of a JSON value, about; none if it is nested too deeply.
fn size(value: &serde_json::Value, depth: usize) -> Option<usize> {
    use serde_json::Value;
    if depth > DEPTH - 8 {
        return None;
    }
    Some(match value {
        Value::String(text) => text.len() + 8,
        Value::Array(items) => items.iter().map(|item| size(item, depth + 1)).sum::<Option<usize>>()? + 32,
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| Some(key.len() + 32 + size(value, depth + 1)?));
            entries.sum::<Option<usize>>()? + 64
        }
        _ => 8,
    })
}

/// Runs on a thread whose stack is as deep as the limits allow. A panic there is an error here.
fn on_a_large_stack<T: Send>(origin: &str, run: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    let result = std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("chat-template".into()).stack_size(STACK).spawn_scoped(scope, run);
        thread.map(|thread| thread.join())
    });
    match result {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Error::DependencyPanic {
            path: origin.into(),
            action: "render the chat template",
            message: "a panic in the template engine".into(),
        }),
        Err(source) => Err(Error::Read { path: origin.into(), source }),
    }
}

/// Turns the tags of transformers' own extension, which mark the model's words for training, into ones that do nothing.
fn prepared(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        // Not the same sign twice, as in `{%}`.
        let Some(end) = tag[2..].find("%}").map(|end| end + 2) else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end + 2);
        match tag[2..end].trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace()) {
            "generation" => out.push_str(&tag.replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&tag.replacen("endgeneration", "endif", 1)),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn whitespace() -> WhitespaceConfig {
    WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true }
}

/// What the compiler does without a limit of its own: it recurses where a template nests, and works out expressions of
/// literals, such as `'-' * 80`.
fn limit_compilation(origin: &str, source: &str) -> Result<(), Error> {
    let over = |limit: String| Err(Error::TemplateLimit { origin: origin.into(), limit });
    let mut elifs = 0;
    let mut grown = 0u64;
    let mut tag = Tag::default();
    for token in tokenize(source, false, Default::default(), whitespace()) {
        let (token, span) = token.map_err(|source| Error::TemplateSyntax { origin: origin.into(), source })?;
        tag.tokens += 1;
        match token {
            Token::BlockStart | Token::VariableStart => tag = Tag { start: span.start_offset, ..Tag::default() },
            Token::BlockEnd | Token::VariableEnd => {
                grown = grown.saturating_add(tag.growth(span.end_offset));
                tag = Tag::default();
            }
            Token::Ident("elif") => elifs += 1,
            Token::Mul => tag.multiplies = true,
            Token::Pow => tag.powers = true,
            Token::Str(_) | Token::String(_) | Token::BracketOpen | Token::BraceOpen => tag.has_values = true,
            Token::Int(number) => tag.product = tag.product.saturating_mul(number.max(2)),
            Token::Int128(_) => tag.product = u64::MAX,
            _ => {}
        }
        if tag.tokens > TOKENS_IN_A_TAG || elifs > ELIFS {
            return over(format!("nesting of {TOKENS_IN_A_TAG} tokens in a tag or {ELIFS} elif in all"));
        }
    }
    if grown > LITERAL_BYTES {
        return over(format!("{LITERAL_BYTES} bytes of repeated literals"));
    }
    Ok(())
}

/// What matters of a tag's tokens.
#[derive(Debug)]
struct Tag {
    start: u32,
    tokens: usize,
    has_values: bool,
    multiplies: bool,
    powers: bool,
    /// Of all integers: no sum or product of them is larger.
    product: u64,
}

impl Default for Tag {
    fn default() -> Self {
        Self { start: 0, tokens: 0, has_values: false, multiplies: false, powers: false, product: 1 }
    }
}

impl Tag {
    /// A bound on the size of repeated texts and lists, if it repeats any.
    fn growth(&self, end: u32) -> u64 {
        match (self.has_values && self.multiplies, self.powers) {
            (false, _) => 0,
            (true, false) => u64::from(end.saturating_sub(self.start)).saturating_mul(self.product),
            (true, true) => u64::MAX,
        }
    }
}

type Program<'s> = (Instructions<'s>, BTreeMap<&'s str, Instructions<'s>>);

fn compile(source: &str) -> Result<Program<'_>, Failure> {
    let tree = parse(source, "chat_template", Default::default(), whitespace())?;
    let mut generator = CodeGenerator::new("chat_template", source);
    generator.compile_stmt(&tree);
    let (instructions, blocks) = generator.finish();
    Ok((metered(&instructions), blocks.iter().map(|(&name, block)| (name, metered(block))).collect()))
}

/// The same program with its spending watched.
fn metered<'s>(program: &Instructions<'s>) -> Instructions<'s> {
    use Instruction as I;
    let mut out = Instructions::new(program.name(), program.source());
    // Where each old instruction begins in the new program.
    let mut starts = Vec::with_capacity(program.len() + 1);
    for index in 0..program.len() as u32 {
        let Some(instruction) = program.get(index) else { break };
        starts.push(out.len() as u32);
        let line = program.get_line(index).unwrap_or_default() as u16;
        let mut add = |instruction: Instruction<'s>| {
            out.add_with_line(instruction, line);
        };
        match instruction {
            // Through the formatter, as everything else.
            I::EmitRaw(text) => {
                add(I::LoadConst(Value::from(*text)));
                add(I::Emit);
            }
            // A list that the compiler worked out may be long without having items yet.
            I::LoadConst(value) if value.as_object().is_some() => {
                add(instruction.clone());
                add(I::CallFunction(CHARGE, Some(1)));
            }
            // What is joined is shown as Python shows it.
            I::StringConcat => {
                add(I::CallFunction(CONCAT, Some(2)));
                add(I::CallFunction(CHARGE, Some(1)));
            }
            // The value is below the namespace.
            I::SetAttr(name) => {
                add(I::Swap);
                add(I::CallFunction(STORABLE, Some(1)));
                add(I::Swap);
                add(I::SetAttr(name));
            }
            I::Slice
            | I::Add
            | I::Mul
            | I::Pow
            | I::In
            | I::Eq
            | I::Ne
            | I::Gt
            | I::Gte
            | I::Lt
            | I::Lte
            | I::BuildList(_)
            | I::BuildMap(_)
            | I::EndCapture
            | I::ApplyFilter(..)
            | I::PerformTest(..)
            | I::CallFunction(..)
            | I::CallMethod(..)
            | I::CallObject(_)
            | I::Iterate(_) => {
                add(instruction.clone());
                add(I::CallFunction(CHARGE, Some(1)));
            }
            other => add(other.clone()),
        }
    }
    starts.push(out.len() as u32);
    for index in 0..out.len() as u32 {
        if let Some(
            I::Iterate(target)
            | I::Jump(target)
            | I::JumpIfFalse(target)
            | I::JumpIfFalseOrPop(target)
            | I::JumpIfTrueOrPop(target)
            | I::BuildMacro(_, target, _),
        ) = out.get_mut(index)
        {
            *target = starts.get(*target as usize).copied().unwrap_or_default();
        }
    }
    out
}

/// The world as a template sees it.
fn environment(meter: &Arc<Meter>, now: SystemTime) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(STEPS));
    environment.set_recursion_limit(200);

    let output = meter.clone();
    environment.set_formatter(move |out, _, value| {
        let text = match value.as_str() {
            Some(text) => std::borrow::Cow::Borrowed(text),
            None => python::to_str(value).into(),
        };
        output.spend(text.len())?;
        out.write_str(&text).map_err(Failure::from)
    });

    let m = meter.clone();
    environment.set_unknown_method_callback(move |_, value, name, args| python::method(&m, value, name, args));
    let m = meter.clone();
    environment.add_function(CHARGE, move |value: Value| m.charge(&value).map(|()| value));
    let m = meter.clone();
    environment.add_function(STORABLE, move |value: Value| match m.measure(&value, 0)? {
        // It could contain itself then.
        true => Err(python::invalid("a namespace cannot be stored in a namespace")),
        false => Ok(value),
    });
    let m = meter.clone();
    environment.add_function(CONCAT, move |left: Value, right: Value| {
        let (left, right) = (python::to_str(&left), python::to_str(&right));
        m.fits(left.len() + right.len())?;
        Ok(Value::from(left + &right))
    });

    let m = meter.clone();
    environment.add_function("raise_exception", move |message: Value| -> Result<Value, Failure> {
        Err(m.stop(Stop::Refused(python::to_str(&message))))
    });
    environment.add_function("strftime_now", move |format: &str| {
        strftime(format, now).map_err(|directive| python::invalid(format!("strftime_now does not know {directive}")))
    });
    environment.add_function("dict", python::dict);

    let m = meter.clone();
    environment.add_filter("tojson", move |value: &Value, indent: Option<Value>, options: Kwargs| {
        // The second argument of transformers' filter is `ensure_ascii`; nobody passes it by position.
        if indent.is_some() {
            return Err(python::invalid("tojson takes its options by name"));
        }
        python::tojson(&m, value, &options)
    });
    environment.add_filter("string", |value: &Value| python::to_str(value));
    // Filters that take anything take it as `str` shows it.
    for name in ["upper", "lower", "capitalize"] {
        let m = meter.clone();
        environment
            .add_filter(name, move |value: &Value| python::method(&m, &Value::from(python::to_str(value)), name, &[]));
    }
    let m = meter.clone();
    environment.add_filter("trim", move |value: &Value, chars: Option<Value>| {
        let chars: Vec<Value> = chars.into_iter().collect();
        python::method(&m, &Value::from(python::to_str(value)), "strip", &chars)
    });
    let m = meter.clone();
    environment.add_filter("join", move |values: &Value, separator: Option<Value>, options: Kwargs| {
        let separator = options.get::<Option<Value>>("d")?.or(separator);
        let attribute = options.get::<Option<String>>("attribute")?;
        options.assert_all_used()?;
        let separator = separator.map(|value| python::to_str(&value)).unwrap_or_default();
        match attribute {
            None => python::join(&m, values, &separator),
            Some(attribute) => {
                let values =
                    values.try_iter()?.map(|value| value.get_attr(&attribute)).collect::<Result<Vec<_>, _>>()?;
                python::join(&m, &Value::from(values), &separator)
            }
        }
    });
    let m = meter.clone();
    environment.add_filter("replace", move |text: &Value, from: &Value, to: &Value, count: Option<i64>| {
        python::replace(&m, &python::to_str(text), &python::to_str(from), &python::to_str(to), count)
    });
    let m = meter.clone();
    environment.add_filter(
        "indent",
        move |text: &Value, width: Option<Value>, first: Option<bool>, blank: Option<bool>, options: Kwargs| {
            let width = options.get::<Option<Value>>("width")?.or(width);
            let first = options.get::<Option<bool>>("first")?.or(first);
            let blank = options.get::<Option<bool>>("blank")?.or(blank);
            options.assert_all_used()?;
            let indent = match &width {
                None => " ".repeat(4),
                Some(width) => match width.as_str() {
                    Some(text) => text.to_string(),
                    None => " ".repeat(m.width(i64::try_from(width.clone())?)?),
                },
            };
            python::indent(&m, &python::to_str(text), &indent, first.unwrap_or(false), blank.unwrap_or(false))
        },
    );
    let m = meter.clone();
    environment.add_filter("format", move |text: &str, args: Rest<Value>| {
        python::format(&m, FormatStyle::Printf, text, &args)
    });
    // What Jinja asks Python, Python answers for more kinds, or for fewer: `none` has no items, a boolean is a number.
    let has_items =
        |value: &Value| value.is_undefined() || matches!(value.kind(), K::String | K::Seq | K::Iterable | K::Map);
    environment.add_test("iterable", has_items);
    environment.add_test("sequence", move |value: &Value| has_items(value) && value.kind() != K::Iterable);
    environment.add_test("number", |value: &Value| matches!(value.kind(), K::Number | K::Bool));
    // These make lists of any length out of nothing, and no chat template uses them.
    for name in ["batch", "slice"] {
        environment.remove_filter(name);
    }
    environment
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(source: &str) -> Result<String, Error> {
        let messages = json!([{"role": "user", "content": "Hi", "items": [1]}, {"role": "assistant", "content": null}]);
        check("t", source)?;
        run("t", source, json!({"messages": messages, "tools": null}), SystemTime::UNIX_EPOCH)
    }

    fn ok(source: &str) -> String {
        render(source).unwrap_or_else(|error| panic!("{source}: {error} {:?}", std::error::Error::source(&error)))
    }

    #[test]
    fn templates_run_as_in_jinja() {
        assert_eq!(
            ok("{% for m in messages %}\n  {% if m.content %}\n{{ m.content }}!\n  {% endif %}\n{% endfor %}\n"),
            "Hi!\n"
        );
        assert_eq!(
            ok("{{ messages[0]['items'] }} {{ messages[0].items() | length }} {{ messages[1] }}"),
            "[1] 3 {'role': 'assistant', 'content': None}"
        );
        assert_eq!(
            ok("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}"),
            "2"
        );
        assert_eq!(
            ok(
                "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 3 %}{% break %}{% endif %}{{ i }}{% endfor %}"
            ),
            "013"
        );
        assert_eq!(
            ok("{{ messages[1:] | length }}{{ messages[::-1][0].role }}{{ 7 // 2 }}{{ 'a' * 3 }}{{ 'x' ~ 1 ~ none }}"),
            "1assistant3aaax1None"
        );
        assert_eq!(
            ok("{% macro f(x, y=2) %}<{{ x }}{{ y }}>{% endmacro %}{{ f(1) }}{{ f(1, y=3) ~ 'z' }}"),
            "<12><13>z"
        );
        assert_eq!(ok("{%- set a %}x{{ 1 }}y{% endset -%} {{ a | upper }}"), "X1Y");
        assert_eq!(ok("{% if tools is none %}no{% endif %}{% if x is defined %}{% else %} x{% endif %}"), "no x");
        assert_eq!(ok("{{ messages | map(attribute='role') | join(', ') }}"), "user, assistant");
        assert_eq!(ok("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}"), "1");
        assert_eq!(
            ok("{{ messages[0].get('nothing') }}{{ messages[0].get('nothing', 3) }}{{ '%s-%d' | format('a', 2) }}"),
            "None3a-2"
        );
        assert_eq!(ok("{{ strftime_now('%d %b %Y') }}"), "01 Jan 1970");
        assert_eq!(ok("{{ 'a\nb\n\nc' | indent(2) }}|{{ 'a' | indent(2, true) }}"), "a\n  b\n\n  c|  a");
        assert_eq!(ok("{% generation %}a{% endgeneration %}{%- generation -%} b {%- endgeneration -%} c"), "abc");
        assert_eq!(
            ok("{{ dict(a=1, b=2) | tojson }}{{ 'x' in 'xyz' }}{{ 1.0 }}{{ 1e20 }}"),
            "{\"a\": 1, \"b\": 2}True1.01e+20"
        );
        assert_eq!(
            ok("{% for a, b in {'k': 'v'}.items() %}{{ a }}={{ b }}{% endfor %}{{ loop is defined }}"),
            "k=vFalse"
        );
        assert_eq!(
            ok(
                "{% for x in [1, [2, [3]]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{% endif %}{% endfor %}"
            ),
            "1(2(3))"
        );
        assert_eq!(ok("{% filter upper %}a{{ 'b' }}{% endfilter %}{% call(x) g() %}[{{ x }}]{% endcall %}{% macro g() %}{{ caller(1) }}{% endmacro %}".replace("{% call(x) g() %}[{{ x }}]{% endcall %}{% macro g() %}{{ caller(1) }}{% endmacro %}", "{% macro g() %}{{ caller(1) }}{% endmacro %}{% call(x) g() %}[{{ x }}]{% endcall %}").as_str()), "AB[1]");
        assert_eq!(ok("{{ '=' * 5 }}{{ 60 * 60 * 24 * 365 }}"), "=====31536000");
        assert_eq!(ok("{{ not true and false or 1 < 2 < 3 }}{{ 'a' if false else 'b' }}"), "Trueb");
    }

    #[test]
    fn refusals_carry_the_words_of_the_template() {
        let error = render("{{ raise_exception('Only user and assistant roles!') }}").unwrap_err();
        assert!(matches!(&error, Error::TemplateRefused { message } if message == "Only user and assistant roles!"));
        let error = render("{% macro f() %}{{ raise_exception('inner ' ~ 1) }}{% endmacro %}{{ f() }}").unwrap_err();
        assert!(matches!(&error, Error::TemplateRefused { message } if message == "inner 1"));
    }

    #[test]
    fn mistakes_are_errors() {
        assert!(matches!(render("{% if %}"), Err(Error::TemplateSyntax { .. })));
        assert!(matches!(render("{{ 'a' + 1 }}"), Err(Error::TemplateFailed { .. })));
        assert!(matches!(render("{{ undefined.x }}"), Err(Error::TemplateFailed { .. })));
        assert!(matches!(render("{{ nobody() }}"), Err(Error::TemplateFailed { .. })));
        assert!(matches!(render("{{ strftime_now('%Q') }}"), Err(Error::TemplateFailed { .. })));
        assert!(matches!(render("{% include '/etc/passwd' %}"), Err(Error::TemplateFailed { .. })));
        assert!(matches!(render("{{ messages.append(1) }}"), Err(Error::TemplateFailed { .. })));
    }

    #[test]
    fn hostile_templates_are_stopped() {
        let many = |piece: &str, times: usize| piece.repeat(times);
        for (name, source) in [
            ("endless loop", "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}".to_string()),
            ("doubling", "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}".into()),
            ("adding", "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}".into()),
            ("lists", "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s | list }}".into()),
            ("repeating", "{{ 'a' * 99999999 }}".into()),
            ("repeating a list", "{{ ([0] * 999999999999) | list | length }}".into()),
            ("repeating a list step by step", "{% set n = 99999999 %}{{ ([0] * n) | list | length }}".into()),
            ("repeating a literal in small steps", "{{ 'a' * (100 * 100) * 100 * 100 }}".into()),
            ("repeating by a power", "{{ 'a' * 2 ** 30 }}".into()),
            ("many literals", many("{{ 'a' * 1000 }}", 5_000)),
            ("searching while compiling", "{{ 1 in [0] * 999999999999 }}".into()),
            ("comparing while compiling", "{{ [0] * 9999999999 == [0] * 9999999999 }}".into()),
            ("capturing", "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set x %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = x %}{% endfor %}".into()),
            ("raw text", format!("{{% set x %}}{{% for i in range(99999) %}}{}{{% endfor %}}{{% endset %}}", many("x", 100_000))),
            ("output", format!("{{% for i in range(99999) %}}{}{{% endfor %}}", many("x", 100_000))),
            ("replacing", "{% set a = 'a' * 5000 %}{% set b = a | replace('a', a) %}{{ b | replace('a', a) }}".into()),
            ("replacing by method", "{% set a = 'a' * 5000 %}{{ a.replace('a', a).replace('a', a) }}".into()),
            ("joining", "{% set a = 'a' * 9000 %}{{ range(90000) | join(a) }}".into()),
            ("joining by method", "{% set a = 'a' * 9000 %}{{ a.join(range(90000)) }}".into()),
            ("indenting", "{{ ('\n' * 100000) | indent(9999) }}".into()),
            ("wide indent", "{{ [1] | tojson(indent=999999999999) }}".into()),
            ("deep json", "{{ [[1]] | tojson(indent=10000) | replace(' ', '                ') | replace(' ', '                ')| replace(' ', '                ') }}".into()),
            ("formatting", "{{ '%999999999d' | format(1) }}".into()),
            ("formatting by method", "{{ '{:999999999}'.format(1) }}".into()),
            ("padding", "{{ 'a'.center(99999999999) }}".into()),
            ("counting nothing", "{% for i in range(99999) %}{% for j in range(99999) %}{% if 'a'.count('') %}{% endif %}{% endfor %}{% endfor %}".into()),
            ("searching", "{% set a = 'a' * 8000000 %}{% for i in range(99999) %}{% if 'b' in a %}{% endif %}{% endfor %}{{ nobody() }}".into()),
            ("self-reference", "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}".into()),
            ("self-reference in a list", "{% set ns = namespace() %}{% set ns.a = [[ns]] %}{{ ns | string }}".into()),
            ("nesting", "{% set ns = namespace(a=[]) %}{% for i in range(99999) %}{% set ns.a = [ns.a] %}{% endfor %}".into()),
            ("nesting maps", "{% set ns = namespace(a={}) %}{% for i in range(99999) %}{% set ns.a = {'a': ns.a} %}{% endfor %}".into()),
            ("nesting variables", format!("{{% set x = [] %}}{}", many("{% set x = [x] %}", 20_000))),
            ("macros", "{% macro f(x) %}{{ f([x]) }}{% endmacro %}{{ f(1) }}".into()),
            ("mutual macros", "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}".into()),
            ("blocks", "{% block a %}{{ self.a() }}{% endblock %}".into()),
            ("recursive loop", "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}".into()),
            ("attributes", format!("{{{{ a{} }}}}", many(".b", 200_000))),
            ("filters", format!("{{{{ a{} }}}}", many("|e", 200_000))),
            ("additions", format!("{{{{ 1{} }}}}", many("+1", 200_000))),
            ("negations", format!("{{{{ {}1 }}}}", many("-", 400_000))),
            ("nots", format!("{{{{ {}1 }}}}", many("not ", 100_000))),
            ("brackets", format!("{{{{ {} }}}}", many("[", 400_000))),
            ("parentheses", format!("{{{{ {} }}}}", many("(", 400_000))),
            ("conditions", format!("{{{{ 1{} }}}}", many(" if 1 else 1", 40_000))),
            ("elifs", format!("{{% if a %}}{}{{% endif %}}", many("{% elif a %}", 40_000))),
            ("ifs", many("{% if a %}", 40_000)),
            ("fors", many("{% for a in b %}", 20_000)),
            ("powers", format!("{{{{ 2{} }}}}", many("**2", 1_000))),
        ] {
            let started = Instant::now();
            match render(&source) {
                Ok(text) => panic!("{name} rendered {} bytes", text.len()),
                Err(Error::DependencyPanic { message, .. }) => panic!("{name}: {message}"),
                Err(_) => {}
            }
            assert!(started.elapsed() < TIME + Duration::from_secs(10), "{name} took {:?}", started.elapsed());
        }
    }

    #[test]
    fn just_within_the_limits_a_template_runs() {
        let deep = format!("{{% set x = [] %}}{}{{{{ x | tojson | length }}}}", "{% set x = [x] %}".repeat(100));
        assert_eq!(ok(&deep), "202");
        let wide = format!("{{{{ 1{} }}}}", "+1".repeat(2000));
        assert_eq!(ok(&wide), "2001");
        let chain = format!("{{% if a %}}{}{{% else %}}x{{% endif %}}", "{% elif a %}".repeat(1500));
        assert_eq!(ok(&chain), "x");
    }

    #[test]
    fn a_tag_without_an_inside_is_none() {
        for source in ["{%}", "{%}{% generation %}", "{%", "{%%}", "a {%}%} b"] {
            let prepared = prepared(source);
            assert!(prepared.starts_with(&source[..source.find("{%").unwrap() + 2]), "{prepared}");
        }
        assert_eq!(prepared("{%- generation %}x{% endgeneration -%}"), "{%- if true %}x{% endif -%}");
    }
}
