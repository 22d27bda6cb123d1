//! A client that hides nothing: commands as bytes, replies in the shape they came, errors as values.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::ops::Index;

/// A reply. The nulls of both protocols are one `Nil`; a verbatim string is a `Bulk`.
#[derive(Clone, PartialEq)]
pub enum Value {
    Nil,
    Simple(String),
    Error(String),
    Int(i64),
    Double(f64),
    Bool(bool),
    Bulk(Vec<u8>),
    Array(Vec<Value>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

impl Value {
    pub fn bulk(bytes: impl AsRef<[u8]>) -> Value {
        Value::Bulk(bytes.as_ref().to_vec())
    }

    /// The text of a string, error or number.
    #[track_caller]
    pub fn text(&self) -> String {
        match self {
            Value::Simple(text) | Value::Error(text) => text.clone(),
            Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::Int(number) => number.to_string(),
            Value::Double(number) => number.to_string(),
            other => panic!("no text: {other}"),
        }
    }

    #[track_caller]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Value::Bulk(bytes) => bytes,
            other => panic!("not a bulk string: {other}"),
        }
    }

    #[track_caller]
    pub fn int(&self) -> i64 {
        match self {
            Value::Int(number) => *number,
            other => panic!("not an integer: {other}"),
        }
    }

    /// A number of either protocol: RESP2 has no doubles and sends them as strings.
    #[track_caller]
    pub fn number(&self) -> f64 {
        match self {
            Value::Double(number) => *number,
            other => other.text().parse().expect("a number"),
        }
    }

    /// The items of an array or a set.
    #[track_caller]
    pub fn items(&self) -> &[Value] {
        match self {
            Value::Array(items) | Value::Set(items) => items,
            other => panic!("not an array: {other}"),
        }
    }

    /// The items as texts, sorted: for replies whose order means nothing.
    #[track_caller]
    pub fn sorted_texts(&self) -> Vec<String> {
        let mut texts: Vec<String> = self.items().iter().map(Value::text).collect();
        texts.sort();
        texts
    }

    /// The fields of a map: a RESP3 map or a RESP2 flat array.
    #[track_caller]
    pub fn fields(&self) -> Fields {
        match self {
            Value::Map(pairs) => Fields(pairs.iter().map(|(k, v)| (k.text(), v.clone())).collect()),
            Value::Array(flat) => {
                assert!(flat.len().is_multiple_of(2), "no map: {self}");
                let pair = |pair: &[Value]| (pair[0].text(), pair[1].clone());
                Fields(flat.chunks(2).map(pair).collect())
            }
            other => panic!("not a map: {other}"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Nil => write!(f, "nil"),
            Value::Simple(text) => write!(f, "+{text}"),
            Value::Error(text) => write!(f, "-{text}"),
            Value::Int(number) => write!(f, "{number}"),
            Value::Double(number) => write!(f, "{number:?}"),
            Value::Bool(yes) => write!(f, "{yes}"),
            Value::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Value::Array(items) => f.debug_list().entries(items).finish(),
            Value::Set(items) => f.debug_set().entries(items).finish(),
            Value::Push(items) => {
                write!(f, "push ")?;
                f.debug_list().entries(items).finish()
            }
            Value::Map(pairs) => {
                let pairs = pairs.iter().map(|(name, value)| (name, value));
                f.debug_map().entries(pairs).finish()
            }
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A bulk string of these characters.
impl PartialEq<&str> for Value {
    fn eq(&self, text: &&str) -> bool {
        matches!(self, Value::Bulk(bytes) if bytes == text.as_bytes())
    }
}

impl PartialEq<i64> for Value {
    fn eq(&self, number: &i64) -> bool {
        matches!(self, Value::Int(own) if own == number)
    }
}

/// A map reply, looked up by name: `fields["status"]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Fields(Vec<(String, Value)>);

impl Fields {
    /// The names in the order in which they came.
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }
}

impl Index<&str> for Fields {
    type Output = Value;

    #[track_caller]
    fn index(&self, name: &str) -> &Value {
        self.get(name).unwrap_or_else(|| panic!("no field {name} in {:?}", self.names()))
    }
}

/// Anything that can stand as one argument.
pub trait Arg {
    fn to_arg(&self) -> Vec<u8>;
}

impl<T: Arg + ?Sized> Arg for &T {
    fn to_arg(&self) -> Vec<u8> {
        (**self).to_arg()
    }
}

macro_rules! arg {
    (bytes: $($bytes:ty),+) => { $(impl Arg for $bytes {
        fn to_arg(&self) -> Vec<u8> { AsRef::<[u8]>::as_ref(self).to_vec() }
    })+ };
    (numbers: $($number:ty),+) => { $(impl Arg for $number {
        fn to_arg(&self) -> Vec<u8> { self.to_string().into_bytes() }
    })+ };
}
arg!(bytes: str, String, [u8], Vec<u8>);
arg!(numbers: i32, i64, u16, usize);

/// A whole command: a text whose words are the arguments, or a list of arguments.
pub trait Command {
    fn words(self) -> Vec<Vec<u8>>;
}

impl Command for &str {
    fn words(self) -> Vec<Vec<u8>> {
        self.split_whitespace().map(Arg::to_arg).collect()
    }
}

impl Command for &String {
    fn words(self) -> Vec<Vec<u8>> {
        self.as_str().words()
    }
}

impl<A: Arg> Command for Vec<A> {
    fn words(self) -> Vec<Vec<u8>> {
        self.iter().map(Arg::to_arg).collect()
    }
}

impl<A: Arg> Command for &[A] {
    fn words(self) -> Vec<Vec<u8>> {
        self.iter().map(Arg::to_arg).collect()
    }
}

impl<A: Arg, const N: usize> Command for &[A; N] {
    fn words(self) -> Vec<Vec<u8>> {
        self.as_slice().words()
    }
}

/// One connection. It speaks RESP2 until [`Conn::hello3`].
pub struct Conn {
    stream: BufReader<TcpStream>,
}

impl Conn {
    /// Connects; a reply that stays out longer than the harness has patience fails the test.
    pub fn open(port: u16) -> std::io::Result<Conn> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(super::IN_VAIN))?;
        stream.set_nodelay(true)?;
        Ok(Conn { stream: BufReader::new(stream) })
    }

    /// One more connection to the same server.
    pub fn another(&self) -> Conn {
        Conn::open(self.stream.get_ref().peer_addr().unwrap().port()).unwrap()
    }

    /// Sends a command and returns its reply, an error too.
    #[track_caller]
    pub fn cmd(&mut self, command: impl Command) -> Value {
        let words = command.words();
        match self.try_cmd(words) {
            Ok(reply) => reply,
            Err(gone) => panic!("the connection broke: {gone}"),
        }
    }

    /// As [`Conn::cmd`] where the server may close the connection.
    pub fn try_cmd(&mut self, command: impl Command) -> std::io::Result<Value> {
        self.send(command)?;
        self.receive()
    }

    /// Sends without waiting for the reply: for commands that block, and with [`Conn::receive`] for messages.
    pub fn send(&mut self, command: impl Command) -> std::io::Result<()> {
        self.stream.get_mut().write_all(&encode(&command.words()))
    }

    /// Sends all commands at once, then reads all replies.
    #[track_caller]
    pub fn pipeline<C: Command>(&mut self, commands: impl IntoIterator<Item = C>) -> Vec<Value> {
        let encoded: Vec<Vec<u8>> = commands.into_iter().map(|c| encode(&c.words())).collect();
        let mut replies = Vec::with_capacity(encoded.len());
        // In chunks, so that neither side's socket buffer fills while the other one writes.
        for chunk in encoded.chunks(256) {
            self.stream.get_mut().write_all(&chunk.concat()).unwrap();
            replies.extend(chunk.iter().map(|_| self.receive().unwrap()));
        }
        replies
    }

    /// Reads one reply.
    pub fn receive(&mut self) -> std::io::Result<Value> {
        let line = self.line()?;
        let (kind, rest) = (line[0], String::from_utf8_lossy(&line[1..]).into_owned());
        Ok(match kind {
            b'+' => Value::Simple(rest),
            b'-' => Value::Error(rest),
            b':' => Value::Int(rest.parse().unwrap()),
            b',' => Value::Double(rest.parse().unwrap()),
            b'#' => Value::Bool(rest == "t"),
            b'_' => Value::Nil,
            b'$' | b'*' if rest == "-1" => Value::Nil,
            b'$' => Value::Bulk(self.exactly(&rest)?),
            b'=' => Value::Bulk(self.exactly(&rest)?.split_off(4)),
            b'!' => Value::Error(String::from_utf8_lossy(&self.exactly(&rest)?).into_owned()),
            b'*' => Value::Array(self.values(&rest)?),
            b'~' => Value::Set(self.values(&rest)?),
            b'>' => Value::Push(self.values(&rest)?),
            b'%' => {
                let length: usize = rest.parse().unwrap();
                let pair = |_| Ok((self.receive()?, self.receive()?));
                Value::Map((0..length).map(pair).collect::<std::io::Result<_>>()?)
            }
            _ => panic!("not a reply: {}", line.escape_ascii()),
        })
    }

    fn line(&mut self) -> std::io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\r\n") || line.len() < 3 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.len() - 2);
        Ok(line)
    }

    fn exactly(&mut self, length: &str) -> std::io::Result<Vec<u8>> {
        let length: usize = length.parse().unwrap();
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        assert_eq!(bytes.split_off(length), b"\r\n", "a string's end");
        Ok(bytes)
    }

    fn values(&mut self, length: &str) -> std::io::Result<Vec<Value>> {
        let length: usize = length.parse().unwrap();
        (0..length).map(|_| self.receive()).collect()
    }

    /// Sends the commands as one transaction and returns a reply for each. In it nothing is done in the background.
    #[track_caller]
    pub fn transaction<C: Command>(&mut self, commands: impl IntoIterator<Item = C>) -> Vec<Value> {
        self.ok("MULTI");
        for command in commands {
            assert_eq!(self.cmd(command), Value::Simple("QUEUED".into()));
        }
        self.cmd("EXEC").items().to_vec()
    }

    /// Goes through an iteration to its end, with a command of the form of `SCAN` and its options behind the cursor: all
    /// elements, as they came.
    #[track_caller]
    pub fn iterate(&mut self, command: &str, options: impl Command) -> Vec<Value> {
        let options = options.words();
        let (mut cursor, mut elements) = (b"0".to_vec(), Vec::new());
        for _ in 0..1_000_000 {
            let words = [vec![command.to_arg(), cursor], options.clone()].concat();
            let reply = self.cmd(words);
            let [next, some] = reply.items() else { panic!("no cursor and elements: {reply}") };
            elements.extend_from_slice(some.items());
            cursor = next.as_bytes().to_vec();
            if cursor == b"0" {
                return elements;
            }
        }
        panic!("{command} does not end");
    }

    /// Asserts the reply `+OK`.
    #[track_caller]
    pub fn ok(&mut self, command: impl Command) {
        assert_eq!(self.cmd(command), Value::Simple("OK".into()));
    }

    /// Asserts an error that begins with `prefix`; returns its whole text.
    #[track_caller]
    pub fn err(&mut self, command: impl Command, prefix: &str) -> String {
        let words = command.words();
        let shown = Value::Array(words.iter().map(Value::bulk).collect());
        match self.cmd(words) {
            Value::Error(text) if text.starts_with(prefix) => text,
            other => panic!("expected an error {prefix:?} from {shown}, got {other}"),
        }
    }

    /// Asserts an integer and returns it.
    #[track_caller]
    pub fn int(&mut self, command: impl Command) -> i64 {
        self.cmd(command).int()
    }

    /// Asserts a bulk string and returns it.
    #[track_caller]
    pub fn bulk(&mut self, command: impl Command) -> Vec<u8> {
        match self.cmd(command) {
            Value::Bulk(bytes) => bytes,
            other => panic!("not a bulk string: {other}"),
        }
    }

    /// Asserts a bulk string and returns it as text.
    #[track_caller]
    pub fn text(&mut self, command: impl Command) -> String {
        String::from_utf8(self.bulk(command)).expect("UTF-8")
    }

    /// Asserts null.
    #[track_caller]
    pub fn nil(&mut self, command: impl Command) {
        assert_eq!(self.cmd(command), Value::Nil);
    }

    /// Asserts a map, of either protocol.
    #[track_caller]
    pub fn map(&mut self, command: impl Command) -> Fields {
        self.cmd(command).fields()
    }

    /// One line of `INFO`: `c.info("server", "process_id")`; empty when there is none.
    #[track_caller]
    pub fn info(&mut self, section: &str, name: &str) -> String {
        let info = self.text(&["INFO", section]);
        let line = info.lines().find_map(|line| line.split_once(':').filter(|(n, _)| *n == name));
        line.map(|(_, value)| value.to_string()).unwrap_or_default()
    }

    /// The value of one setting of the server.
    #[track_caller]
    pub fn config(&mut self, name: &str) -> String {
        self.map(&["CONFIG", "GET", name])[name].text()
    }

    /// Switches to RESP3.
    #[track_caller]
    pub fn hello3(&mut self) {
        let hello = self.map("HELLO 3");
        assert_eq!(hello["proto"], 3);
    }
}

fn encode(words: &[Vec<u8>]) -> Vec<u8> {
    let mut wire = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        wire.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        wire.extend_from_slice(word);
        wire.extend_from_slice(b"\r\n");
    }
    wire
}
