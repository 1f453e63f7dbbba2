//! Sentences with names in them that no list has, made from `sentences.txt`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::corpus::{Kind, Text};
use crate::random::Random;

#[rustfmt::skip]
const WORDS: &[(&str, &[&str])] = &[
    ("title", &["Mr.", "Mrs.", "Ms.", "Dr.", "Prof.", "Mr", "Mrs", "Ms", "Dr", "Professor", "Mister", "Miss"]),
    ("month", &["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"]),
    ("day", &["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]),
    ("time", &["9 am", "10:30", "noon", "half past five", "17:45"]),
    ("word", &["brother", "partner", "wife", "son", "money", "patience", "music", "history", "chess", "growth", "change", "quality"]),
    ("role", &[
        "engineer", "teacher", "lawyer", "nurse", "singer", "director", "accountant", "manager", "footballer", "painter", "poet", "chemist", "consultant",
        "politician", "journalist", "analyst", "chairman", "secretary", "spokeswoman", "captain", "mayor", "Product Manager", "Sales Director", "CEO", "CTO",
    ]),
];

#[rustfmt::skip]
const PARTICLES: &[&str] = &["de", "van", "von", "van der", "de la", "del", "di", "da", "al", "bin", "dos", "le", "ten", "af"];

#[rustfmt::skip]
const ENDINGS: &[&str] = &[
    "sson", "sen", "ová", "ova", "ski", "sky", "ska", "enko", "czyk", "wicz", "escu", "oglu", "yan", "ian", "opoulos", "akis", "adze", "shvili", "inen",
    "etti", "elli", "ini", "moto", "mura", "yama", "kawa", "mann", "berg", "stein", "ez", "quist", "ström", "dahl", "ić", "ov", "ev", "ez", "es", "eira",
    "singh", "wala", "nathan", "murthy", "zadeh", "pour", "awi", "uddin", "ngo", "ele", "olu", "yemi", "chukwu",
];

#[rustfmt::skip]
const COMPANIES: &[&str] = &["Inc", "Inc.", "Ltd", "LLC", "GmbH", "Corp", "Group", "Holdings", "Technologies", "Systems", "Solutions", "Partners", "Bank", "Labs", "Media",
    "Software", "Industries", "Consulting", "Foundation", "Airlines", "Motors", "Pharma", "Energy", "Capital", "Records", "Studios"];

#[rustfmt::skip]
const INSTITUTES: &[&str] = &["University", "College", "Hospital", "High School", "Museum", "City Council", "Institute", "FC", "United", "Orchestra", "Symphony", "Library",
    "Cathedral", "Academy", "Chamber of Commerce", "Times", "Post", "Rovers", "Giants", "Tigers", "Eagles"];

#[rustfmt::skip]
const STREETS: &[&str] = &["Street", "Avenue", "Road", "Lane", "Drive", "St.", "Ave", "Blvd", "Court", "Place", "Way", "Terrace", "Square", "Close", "Crescent"];

/// Letters that follow three letters, in lists of names.
struct Chain(BTreeMap<Vec<char>, Vec<char>>);

impl Chain {
    fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let mut chain = BTreeMap::<Vec<char>, Vec<char>>::new();
        for name in names.filter(|name| !name.contains(' ')) {
            let letters: Vec<char> = format!("^^{}$", name.to_lowercase()).chars().collect();
            for at in 2..letters.len() {
                for from in [at - 2, at.saturating_sub(3)] {
                    chain.entry(letters[from..at].to_vec()).or_default().push(letters[at]);
                }
            }
        }
        Self(chain)
    }

    /// A word of about the length of a name.
    fn say(&self, random: &mut Random) -> String {
        loop {
            let mut letters = vec!['^', '^'];
            while letters.len() < 14 {
                let from = if letters.len() > 2 && random.chance(0.8) { letters.len() - 3 } else { letters.len() - 2 };
                let Some(next) = self.0.get(&letters[from..]).or_else(|| self.0.get(&letters[letters.len() - 2..]))
                else {
                    break;
                };
                let next = next[random.below(next.len())];
                if next == '$' {
                    break;
                }
                letters.push(next);
            }
            if (5..14).contains(&letters.len()) {
                return letters[2..].iter().collect();
            }
        }
    }
}

pub(crate) struct Lists {
    given: Vec<String>,
    foreign: Vec<String>,
    surnames: Vec<String>,
    cities: Vec<String>,
    countries: Vec<String>,
    words: Vec<String>,
    /// Those that are names too.
    common: Vec<String>,
    given_chain: Chain,
    surname_chain: Chain,
    place_chain: Chain,
    word_chain: Chain,
}

impl Lists {
    /// Reads the crate's own lists, and places from the gazetteers.
    pub(crate) fn read(data: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let own = |name: &str| std::fs::read_to_string(format!("{}/data/{name}", env!("CARGO_MANIFEST_DIR")));
        let split = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let places = |name: &str| -> Result<Vec<String>, std::io::Error> {
            let text = std::fs::read_to_string(format!("{data}/pii-gazetteers/{name}"))?;
            Ok(text.lines().skip(1).filter_map(|line| line.split('\t').next()).map(str::to_owned).collect())
        };
        let (given, foreign) = (split(own("first.txt")?), split(own("first_international.txt")?));
        let (surnames, words) = (split(own("last.txt")?), split(own("vocabulary.txt")?));
        let words: Vec<String> =
            words.into_iter().filter(|word| word.len() > 2 && word.bytes().all(|b| b.is_ascii_lowercase())).collect();
        let names: BTreeSet<&String> = given.iter().chain(&surnames).collect();
        let common = words.iter().filter(|word| names.contains(word)).cloned().collect();
        let (cities, countries) = (places("cities.tsv")?, places("countries.tsv")?);
        Ok(Self {
            given_chain: Chain::new(given.iter().chain(&foreign).chain(&foreign).map(String::as_str)),
            surname_chain: Chain::new(surnames.iter().chain(cities.iter().skip(1000)).map(String::as_str)),
            word_chain: Chain::new(words.iter().map(String::as_str)),
            place_chain: Chain::new(cities.iter().map(String::as_str)),
            given,
            foreign,
            surnames,
            cities,
            countries,
            words,
            common,
        })
    }

    fn pick(random: &mut Random, from: &[String]) -> String {
        from[random.below(from.len())].clone()
    }

    fn first(&self, random: &mut Random) -> String {
        let name = match random.below(10) {
            // The common ones are common.
            0..=1 => self.given[random.below(400)].clone(),
            2..=3 => Self::pick(random, &self.given),
            4..=6 => Self::pick(random, &self.foreign),
            _ => self.given_chain.say(random),
        };
        let name = capital(&marked(random, name));
        if random.chance(0.02) { format!("{name}-{}", capital(&Self::pick(random, &self.foreign))) } else { name }
    }

    fn last(&self, random: &mut Random) -> String {
        let name = match random.below(10) {
            0..=1 => self.surnames[random.below(500)].clone(),
            2..=3 => Self::pick(random, &self.surnames),
            4..=5 => {
                let stem = self.surname_chain.say(random);
                let cut: String = stem.chars().take(2 + random.below(4)).collect();
                cut + random.choose(ENDINGS)
            }
            6 => Self::pick(random, &self.words),
            _ => self.surname_chain.say(random),
        };
        let name = capital(&marked(random, name));
        match random.below(40) {
            0 => format!("{name}-{}", capital(&Self::pick(random, &self.surnames))),
            1 => format!("O'{name}"),
            2 => format!("Mc{name}"),
            _ => name,
        }
    }

    fn name(&self, random: &mut Random) -> String {
        let (first, last) = (self.first(random), self.last(random));
        let letter = char::from(b'A' + random.below(26) as u8);
        match random.below(40) {
            0..=2 => format!("{first} {letter}. {last}"),
            3 => format!("{first} {letter} {last}"),
            4..=5 => format!("{letter}. {last}"),
            6 => format!("{letter}. {}. {last}", char::from(b'A' + random.below(26) as u8)),
            7..=8 => format!("{first} {} {last}", self.first(random)),
            9..=10 => format!("{first} {} {last}", random.choose(PARTICLES)),
            11 => format!("{first} {last} {}", self.last(random)),
            12 => format!("{first} {last} Jr."),
            _ => format!("{first} {last}"),
        }
    }

    fn place(&self, random: &mut Random) -> String {
        match random.below(10) {
            0..=3 => self.cities[random.below(600)].clone(),
            4..=6 => Self::pick(random, &self.cities),
            7 => Self::pick(random, &self.countries),
            8 => format!(
                "{} {}",
                random.choose(&["San", "Saint", "New", "Bad", "Port", "El", "Los"]),
                capital(&self.place_chain.say(random))
            ),
            _ => capital(&self.place_chain.say(random)),
        }
    }

    fn organization(&self, random: &mut Random) -> String {
        let invented = |random: &mut Random| capital(&self.place_chain.say(random));
        match random.below(12) {
            0 => format!("{} {}", self.last(random), random.choose(COMPANIES)),
            1 => format!("{} & {}", self.last(random), self.last(random)),
            2 => format!("{}, {} and {}", self.last(random), self.last(random), self.last(random)),
            3..=4 => format!("{} {}", self.place(random), random.choose(INSTITUTES)),
            5 => format!("{} {}", invented(random), random.choose(COMPANIES)),
            6 => invented(random),
            7 => format!(
                "{}{}",
                invented(random),
                random.choose(&["soft", "tech", "Net", "Works", "Corp", "ix", "ify", ".io", ".com"])
            ),
            8 => format!("{} {} {}", self.title_word(random), self.title_word(random), random.choose(COMPANIES)),
            9 => format!("Bank of {}", self.place(random)),
            10 => (0..3).map(|_| char::from(b'A' + random.below(26) as u8)).collect(),
            _ => random
                .choose(&[
                    "Google",
                    "Microsoft",
                    "Amazon",
                    "Siemens",
                    "Toyota",
                    "Netflix",
                    "Reuters",
                    "Sony",
                    "Intel",
                    "IBM",
                    "Walmart",
                    "Volkswagen",
                ])
                .to_owned(),
        }
    }

    fn thing(&self, random: &mut Random) -> String {
        match random.below(8) {
            0..=2 => format!("{} {}", self.title_word(random), self.title_word(random)),
            3 => format!("The {}", self.title_word(random)),
            4 => self.title_word(random),
            5 => format!("{} {}", self.title_word(random), 1 + random.below(20)),
            6 => format!("{}{}", self.title_word(random), self.title_word(random)),
            _ => capital(&self.place_chain.say(random)),
        }
    }

    fn title_word(&self, random: &mut Random) -> String {
        capital(&Self::pick(random, &self.words))
    }

    /// The name of a type.
    fn kind(&self, random: &mut Random) -> String {
        match random.below(8) {
            0..=1 => capital(&Self::pick(random, &self.common)),
            2..=3 => self.title_word(random),
            4..=5 => format!("{}{}", self.title_word(random), self.title_word(random)),
            6 => format!("{}{}{}", self.title_word(random), self.title_word(random), self.title_word(random)),
            7 if random.chance(0.5) => capital(&Self::pick(random, &self.given)),
            _ => capital(&self.place_chain.say(random)),
        }
    }

    fn species(&self, random: &mut Random) -> String {
        let stem: String = self.place_chain.say(random).chars().take(3 + random.below(6)).collect();
        let ending = [
            "us", "a", "ia", "ella", "um", "is", "viridae", "ales", "ium", "ea", "idae", "coccus", "virus", "ase",
            "in", "ol",
        ];
        capital(&stem) + random.choose(&ending)
    }

    fn street(&self, random: &mut Random) -> String {
        let number = 1 + random.below(999);
        let name = if random.chance(0.5) { self.last(random) } else { self.title_word(random) };
        match random.below(4) {
            0 => format!("{name}straße {number}"),
            1 => format!("{number} {} {}", self.first(random), random.choose(STREETS)),
            _ => format!("{number} {name} {}", random.choose(STREETS)),
        }
    }

    /// A text of each pattern.
    pub(crate) fn texts(&self, patterns: &str, random: &mut Random) -> Vec<Text> {
        let patterns: Vec<&str> = patterns.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        // Neighbours are of one kind and one language.
        let near = |index: usize| &patterns[index.saturating_sub(8)..(index + 9).min(patterns.len())];
        patterns.iter().enumerate().map(|(index, pattern)| self.fill(pattern, near(index), random)).collect()
    }

    fn fill(&self, pattern: &str, patterns: &[&str], random: &mut Random) -> Text {
        let (mut text, mut spans) = (String::new(), Vec::new());
        // Half of the sentences stand among others.
        let mut all = vec![pattern];
        while random.chance(0.3) {
            all.insert(0, random.choose(patterns));
        }
        while random.chance(0.3) {
            all.push(random.choose(patterns));
        }
        for pattern in all {
            if !text.is_empty() {
                text.push_str(if random.chance(0.7) { " " } else { "\n" });
            }
            let mut rest = pattern;
            while let Some(open) = rest.find('{') {
                text.push_str(&rest[..open]);
                let place = rest[open + 1..].split('}').next().unwrap_or_default();
                let (filling, kind) = match place {
                    "name" => (self.name(random), Some(Kind::Person)),
                    "first" => (self.first(random), Some(Kind::Person)),
                    "last" => (self.last(random), Some(Kind::Person)),
                    "place" => (self.place(random), Some(Kind::Place)),
                    "country" => (Self::pick(random, &self.countries), Some(Kind::Place)),
                    "street" => (self.street(random), Some(Kind::Place)),
                    "org" => (self.organization(random), Some(Kind::Organization)),
                    "thing" => (self.thing(random), Some(Kind::Thing)),
                    "Common" => (capital(&Self::pick(random, &self.common)), None),
                    "Word" => (capital(&self.word_chain.say(random)), None),
                    "ABC" => (abbreviation(random), None),
                    "A" | "B" => (char::from(b'A' + random.below(26) as u8).to_string(), None),
                    "Latin" => (self.species(random), None),
                    "Type" => (self.kind(random), None),
                    "CONST" => {
                        let words = [Self::pick(random, &self.words), Self::pick(random, &self.words)];
                        (words[..1 + random.below(2)].join("_").to_uppercase(), None)
                    }
                    "w" => (Self::pick(random, &self.words), None),
                    "n" => ((1 + random.below(99)).to_string(), None),
                    word => match WORDS.iter().find(|(known, _)| *known == word) {
                        Some((_, words)) => (random.choose(words).to_owned(), None),
                        // Braces of their own.
                        None => {
                            text.push('{');
                            rest = &rest[open + 1..];
                            continue;
                        }
                    },
                };
                let start = text.len();
                let shouted = kind.is_some() && random.chance(0.03);
                text.push_str(&if shouted { filling.to_uppercase() } else { filling });
                let span: Range<usize> = start..text.len();
                spans.extend(kind.map(|kind| (span, kind)));
                rest = &rest[open + 2 + place.len()..];
            }
            text.push_str(rest);
        }
        // Both are two bytes and one: spans stay right if breaks are made before they are counted.
        Text::unescape(text, spans)
    }
}

fn abbreviation(random: &mut Random) -> String {
    let mut letters =
        |count: usize| -> String { (0..count).map(|_| char::from(b'A' + random.below(26) as u8)).collect() };
    let (two, three, four) = (letters(2), letters(3), letters(4));
    match random.below(8) {
        0 => two,
        1 => format!("{three}s"),
        2 => format!("{four}-{}", capital(&two.to_lowercase())),
        3 => format!("{three}-{two}"),
        4 => format!("{}{three}", capital(&two.to_lowercase())),
        5 => four,
        6 => format!("{two}{four}"),
        _ => three,
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Now and then, letters with marks.
fn marked(random: &mut Random, name: String) -> String {
    if !random.chance(0.12) {
        return name;
    }
    let swap = |letter: char| match letter {
        'a' => 'á',
        'e' => 'é',
        'i' => 'í',
        'o' => 'ö',
        'u' => 'ü',
        's' => 'š',
        'c' => 'č',
        'n' => 'ñ',
        'z' => 'ž',
        'l' => 'ł',
        other => other,
    };
    name.chars().map(|letter| if random.chance(0.3) { swap(letter) } else { letter }).collect()
}
