//! Word lists behind the grammars of names and addresses. Sources and licences: `data/SOURCE.md`.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::LazyLock;

/// Eight bytes at a time, multiplied. The lists are fixed, so nobody can choose keys that collide in them, and every word of every text is
/// looked up.
#[derive(Default)]
pub(super) struct Multiply(u64);

impl Hasher for Multiply {
    fn write(&mut self, bytes: &[u8]) {
        let mut add = |eight: u64| self.0 = (self.0.rotate_left(23) ^ eight).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (whole, rest) = bytes.as_chunks::<8>();
        whole.iter().for_each(|eight| add(u64::from_le_bytes(*eight)));
        // Up to seven bytes and the length, in two steps that overlap or in two or three single ones.
        let rest = match (rest.first_chunk::<4>(), rest.last_chunk::<4>(), rest) {
            (Some(head), Some(tail), _) => {
                let shift = 8 * (rest.len() - 4);
                u64::from(u32::from_le_bytes(*tail)) << shift | u64::from(u32::from_le_bytes(*head))
            }
            (_, _, [first, .., last]) => {
                u64::from(*first) | u64::from(rest[rest.len() / 2]) << 8 | u64::from(*last) << 16
            }
            (_, _, [only]) => u64::from(*only),
            _ => 0,
        };
        add(rest | (bytes.len() as u64) << 56);
    }

    // What ends a text, which its length does.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

const FIRST: u8 = 1;
const LAST: u8 = 2;
const COMMON: u8 = 4;
const CAPITALIZED: u8 = 8;
const PLACE: u8 = 16;
pub(super) const ORGANIZATION: u8 = 32;
pub(super) const STREET: u8 = 64;
const STREET_PREFIX: u8 = 128;
const TITLE: u16 = 256;

/// A set of words that are known beforehand.
pub(super) type Set = HashSet<&'static str, BuildHasherDefault<Multiply>>;

pub(super) fn set(words: &[&'static str]) -> Set {
    words.iter().copied().collect()
}

/// Endings of two bytes and more by the last two: most texts have others.
pub(super) struct Endings(Box<[Vec<&'static str>; 1024]>);

impl Endings {
    pub(super) fn new(endings: &[&'static str]) -> Self {
        let mut all = Box::new([const { Vec::new() }; 1024]);
        endings.iter().for_each(|ending| all[Self::slot(ending)].push(*ending));
        Self(all)
    }

    fn slot(text: &str) -> usize {
        let [.., before, last] = text.as_bytes() else { return 0 };
        usize::from(last & 31) << 5 | usize::from(before & 31)
    }

    /// Those that the text ends in, whatever the case of its letters of ASCII.
    pub(super) fn of<'t>(&self, text: &'t str) -> impl Iterator<Item = &'static str> + use<'_, 't> {
        let ends = |ending: &str| {
            let start = text.len().checked_sub(ending.len());
            start.is_some_and(|start| text.as_bytes()[start..].eq_ignore_ascii_case(ending.as_bytes()))
        };
        self.0[Self::slot(text)].iter().copied().filter(move |ending| ends(ending))
    }
}

/// Every word and phrase of the lists, and which lists it is on.
static LISTS: LazyLock<Lists> = LazyLock::new(Lists::new);

struct Lists {
    words: Table,
    first: Sketches,
    /// One bit for the hash of the first word of each place of several.
    places: Box<[u64; 64]>,
}

impl Lists {
    fn words() -> HashMap<&'static str, u16, BuildHasherDefault<Multiply>> {
        let mut words: HashMap<&'static str, u16, BuildHasherDefault<Multiply>> = HashMap::default();
        let first = [include_str!("../../../data/first.txt"), include_str!("../../../data/first_international.txt")];
        let last = include_str!("../../../data/last.txt");
        let vocabulary = include_str!("../../../data/vocabulary.txt");
        let lists: [(&[&'static str], u8); 6] = [
            (&first, FIRST),
            (&[last], LAST),
            (&[vocabulary, MORE_VOCABULARY], COMMON),
            (&[CALENDAR, PEOPLES, TERMS], CAPITALIZED),
            (&[ORGANIZATION_WORDS], ORGANIZATION),
            (&[STREET_SUFFIXES], STREET),
        ];
        for (sources, list) in lists {
            for word in sources.iter().flat_map(|source| source.split_whitespace()) {
                *words.entry(word).or_insert(0) |= u16::from(list);
            }
        }
        for prefix in STREET_PREFIXES {
            *words.entry(*prefix).or_insert(0) |= u16::from(STREET_PREFIX);
        }
        for place in PLACE_NAMES.split(',').map(str::trim).filter(|place| !place.is_empty()) {
            *words.entry(place).or_insert(0) |= u16::from(PLACE);
        }
        for title in super::name::TITLES {
            *words.entry(*title).or_insert(0) |= TITLE;
        }
        words
    }

    fn new() -> Self {
        let words = Self::words();
        let mut sketches = Sketches(Box::new([0; 1024]));
        let others = u16::from(PLACE | CAPITALIZED);
        for (word, lists) in &words {
            let name = lists & u16::from(FIRST) != 0 && lists & others == 0 && word.len() > 3;
            if name && !stems(word).any(|stem| words.get(&*stem).is_some_and(|lists| lists & u16::from(COMMON) != 0)) {
                sketches.add(word.as_bytes());
            }
        }
        let mut places = Box::new([0; 64]);
        for (head, _) in words.keys().filter_map(|word| word.split_once(' ')) {
            let bit = super::tagger::hash(head) >> 52;
            places[bit as usize >> 6] |= 1 << (bit & 63);
        }
        Self { words: Table::new(&words), first: sketches, places }
    }
}

/// The lists that words are on, by their hashes alone: half a megabyte, where words themselves would not stay in a processor's cache. A word of
/// up to seven bytes has a hash of its own; that a longer one is taken for another happens once in 10^14 words.
struct Table {
    slots: Box<[u64; 1 << Table::BITS]>,
    /// One bit for each word: most of the words that are on no list are done with it.
    known: Box<[u64; 1 << (Table::KNOWN - 6)]>,
}

impl Table {
    const BITS: u32 = 16;
    const KNOWN: u32 = 18;

    fn new(words: &HashMap<&'static str, u16, BuildHasherDefault<Multiply>>) -> Self {
        let mut slots: Box<[u64; 1 << Self::BITS]> = vec![0; 1 << Self::BITS].try_into().expect("of this length");
        let mut known = Box::new([0; 1 << (Self::KNOWN - 6)]);
        for (word, lists) in words {
            let hash = Self::hash(word.as_bytes());
            let (mut slot, tag) = Self::place(hash);
            known[Self::bit(hash).0] |= 1 << Self::bit(hash).1;
            while slots[slot] != 0 {
                slot = (slot + 1) & (slots.len() - 1);
            }
            slots[slot] = tag << 16 | u64::from(*lists);
        }
        Self { slots, known }
    }

    fn hash(word: &[u8]) -> u64 {
        let mut hash = Multiply::default();
        hash.write(word);
        hash.0
    }

    /// The first slot of a word, and what else there is of its hash.
    fn place(hash: u64) -> (usize, u64) {
        ((hash >> (64 - Self::BITS)) as usize, hash << Self::BITS >> Self::BITS)
    }

    /// Where a word's bit is.
    fn bit(hash: u64) -> (usize, u64) {
        let bit = hash >> (64 - Self::KNOWN);
        (bit as usize >> 6, bit & 63)
    }

    /// The lists of a word, as bits; 0 for none.
    fn get(&self, word: &[u8]) -> u16 {
        let hash = Self::hash(word);
        let (known, bit) = Self::bit(hash);
        if self.known[known] >> bit & 1 == 0 {
            return 0;
        }
        let (mut slot, tag) = Self::place(hash);
        loop {
            let here = self.slots[slot & (self.slots.len() - 1)];
            if here == 0 || here >> 16 == tag {
                return (here & 0xffff) as u16;
            }
            slot += 1;
        }
    }
}

/// One bit for each given name of more than three bytes that is nothing else: most words are done with it.
pub(super) struct Sketches(Box<[u64; 1024]>);

impl Sketches {
    /// A place among 65,536 bits for a word: by its first bytes, its last and its length.
    #[inline]
    fn place(head: [u8; 4], tail: u8, length: usize) -> (usize, u32) {
        let hash = (u32::from_le_bytes(head) ^ u32::from(tail) << 13 ^ (length as u32) << 23).wrapping_mul(0x9e37_79b1);
        ((hash >> 22) as usize, hash >> 16 & 63)
    }

    fn add(&mut self, word: &[u8]) {
        if let (Some(head), Some(tail)) = (word.first_chunk(), word.last()) {
            let (slot, bit) = Self::place(*head, *tail, word.len());
            self.0[slot] |= 1 << bit;
        }
    }

    /// Whether a word of four bytes and more may be one: from its first bytes, its last and its length.
    #[inline]
    pub(super) fn may_have(&self, head: [u8; 4], tail: u8, length: usize) -> bool {
        let (slot, bit) = Self::place(head, tail, length);
        self.0[slot] >> bit & 1 != 0
    }
}

/// Given names of more than three bytes that are no place, no term and no ordinary word.
pub(super) fn given_names() -> &'static Sketches {
    &LISTS.first
}

/// What the lists say of a word, in small letters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed(u16);

impl Listed {
    pub(super) fn new(lower: &str) -> Self {
        let lists = LISTS.words.get(lower.as_bytes());
        let marked = if lower.is_ascii() { 0 } else { LISTS.words.get(plain(lower).as_bytes()) };
        Self(lists | marked & u16::from(FIRST | LAST))
    }

    /// The lists, as bits.
    pub(super) fn bits(self) -> u8 {
        (self.0 & 0xff) as u8
    }

    pub(super) fn is_title(self) -> bool {
        self.0 & TITLE != 0
    }

    pub(super) fn is_first(self) -> bool {
        self.bits() & FIRST != 0
    }

    pub(super) fn is_last(self) -> bool {
        self.bits() & LAST != 0
    }

    pub(super) fn is_place(self) -> bool {
        self.bits() & PLACE != 0
    }

    /// Whether the word itself, not only its stem, is an ordinary one or one that always has a capital.
    pub(super) fn is_common(self) -> bool {
        self.bits() & (COMMON | CAPITALIZED) != 0
    }
}

/// The lists of a word but for those of names.
pub(super) fn without_names(bits: u8) -> u8 {
    bits & !(FIRST | LAST)
}

fn is_on(lower: &str, list: u8) -> bool {
    LISTS.words.get(lower.as_bytes()) & u16::from(list) != 0
}

static STREET_ENDS: LazyLock<Endings> = LazyLock::new(|| Endings::new(STREET_ENDINGS));

/// Builds the lists now rather than during the first judgement.
pub(crate) fn prepare() {
    LazyLock::force(&LISTS);
}

/// Whether the word (lower case, ASCII letters alone) is an ordinary one and nobody's name.
pub(crate) fn is_only_common(lower: &[u8]) -> bool {
    let lists = (LISTS.words.get(lower) & 0xff) as u8;
    lists & (COMMON | CAPITALIZED) != 0 && lists & (FIRST | LAST) == 0
}

/// Whether the word is a title, lower case.
pub(super) fn is_title(lower: &[u8]) -> bool {
    LISTS.words.get(lower) & TITLE != 0
}

/// Whether the word is one of an organisation or a street, lower case.
pub(super) fn is_thing(lower: &str) -> bool {
    is_on(lower, ORGANIZATION | STREET)
}

/// Whether the word, of ASCII alone, can be one of [`given_names`].
pub(super) fn may_be_first(lower: &[u8]) -> bool {
    let (Some(head), Some(tail)) = (lower.first_chunk(), lower.last()) else { return false };
    LISTS.first.may_have(*head, *tail, lower.len())
}

/// Given names, lower case.
pub(crate) fn is_first(lower: &str) -> bool {
    is_on(lower, FIRST) || (!lower.is_ascii() && is_on(&plain(lower), FIRST))
}

/// Surnames, lower case.
pub(crate) fn is_last(lower: &str) -> bool {
    is_on(lower, LAST) || (!lower.is_ascii() && is_on(&plain(lower), LAST))
}

/// Words that English writes in lower case, lower case; also their simple plurals and participles.
pub(crate) fn is_common(lower: &str) -> bool {
    stems(lower).any(|stem| is_on(&stem, COMMON))
}

/// The same of a word that is not itself on the list.
pub(super) fn has_common_stem(lower: &str) -> bool {
    stems(lower).skip(1).any(|stem| is_on(&stem, COMMON))
}

/// The word and what it may be a plural or participle of.
fn stems(lower: &str) -> impl Iterator<Item = Cow<'_, str>> {
    const ENDINGS: [(&str, &str); 13] = [
        ("'s", ""),
        ("’s", ""),
        ("s", ""),
        ("es", ""),
        ("ies", "y"),
        ("ed", ""),
        ("ed", "e"),
        ("ing", ""),
        ("ing", "e"),
        ("ly", ""),
        ("er", ""),
        ("er", "e"),
        ("n't", ""),
    ];
    let inflected = matches!(lower.as_bytes().last(), Some(b's' | b'd' | b'g' | b'y' | b'r' | b't'));
    let endings = if inflected { &ENDINGS[..] } else { &[] };
    let stem = move |(ending, instead): &(&str, &str)| {
        let stem = lower.strip_suffix(ending).filter(|stem| stem.len() >= 3)?;
        Some(if instead.is_empty() { Cow::Borrowed(stem) } else { Cow::Owned(format!("{stem}{instead}")) })
    };
    std::iter::once(Cow::Borrowed(lower)).chain(endings.iter().filter_map(stem))
}

/// Days, months, peoples, languages and other words that are written with a capital but name no person.
pub(crate) fn is_capitalized_term(lower: &str) -> bool {
    is_on(lower, CAPITALIZED)
}

/// Countries, states and large cities, lower case, one or several words.
pub(crate) fn is_place(lower: &str) -> bool {
    is_on(lower, PLACE)
}

/// Whether a place of several words may begin with a word of this hash ([`hash`](super::tagger::hash)).
pub(super) fn may_begin_place(hash: u64) -> bool {
    let bit = hash >> 52;
    LISTS.places[bit as usize >> 6] & 1 << (bit & 63) != 0
}

/// Words that make the name before them one of an organisation or a thing.
pub(crate) fn is_organization_word(lower: &str) -> bool {
    is_on(lower, ORGANIZATION)
}

/// `street`, `ave`, … lower case, without a dot.
pub(crate) fn is_street_suffix(lower: &str) -> bool {
    is_on(lower, STREET)
}

/// Words in front of a street's own name: `rue`, `calle`, `ul`.
pub(crate) fn is_street_prefix(lower: &str) -> bool {
    is_on(lower, STREET_PREFIX)
}

/// Whether the word is a street by its own ending: `Hauptstraße`, `Storgatan`, `Koskikatu`.
pub(crate) fn is_street_shape(lower: &str) -> bool {
    STREET_ENDS.of(lower).any(|ending| lower.len() > ending.len() + 2)
}

/// Two-letter codes of the states of the United States and its post, and of the provinces of Canada and Australia.
pub(crate) fn is_state_code(code: &str) -> bool {
    const CODES: &str = "AL AK AZ AR CA CO CT DE FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND OH OK OR \
        PA RI SC SD TN TX UT VT VA WA WV WI WY DC PR GU VI AS MP AA AE AP FM MH PW AB BC MB NB NL NS NT NU ON PE QC SK YT \
        NSW VIC QLD TAS ACT";
    // The second letters of the codes, as bits, by the first ones.
    const HEADS: [u32; 32] = {
        let (mut heads, mut at) = ([0; 32], 0);
        while at + 1 < CODES.len() {
            if at == 0 || CODES.as_bytes()[at - 1] == b' ' {
                heads[(CODES.as_bytes()[at] & 31) as usize] |= 1 << (CODES.as_bytes()[at + 1] & 31);
            }
            at += 1;
        }
        heads
    };
    let [first, second, rest @ ..] = code.as_bytes() else { return false };
    rest.len() < 2
        && HEADS[usize::from(first & 31)] & 1 << (second & 31) != 0
        && CODES.split_ascii_whitespace().any(|known| known == code)
}

/// Letters without their marks, for look-ups in lists that have none.
fn plain(lower: &str) -> String {
    lower
        .chars()
        .filter(|character| !crate::scan::is_mark(*character))
        .map(|character| match character {
            'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' | 'ā' | 'ă' | 'ą' => 'a',
            'ç' | 'ć' | 'č' => 'c',
            'ď' | 'đ' => 'd',
            'è' | 'é' | 'ê' | 'ë' | 'ē' | 'ę' | 'ě' => 'e',
            'ğ' => 'g',
            'ì' | 'í' | 'î' | 'ï' | 'ī' | 'ı' => 'i',
            'ł' | 'ľ' => 'l',
            'ñ' | 'ń' | 'ň' => 'n',
            'ò' | 'ó' | 'ô' | 'õ' | 'ö' | 'ø' | 'ő' => 'o',
            'ř' => 'r',
            'ś' | 'š' | 'ş' => 's',
            'ť' | 'ţ' => 't',
            'ù' | 'ú' | 'û' | 'ü' | 'ū' | 'ů' | 'ű' => 'u',
            'ý' | 'ÿ' => 'y',
            'ź' | 'ż' | 'ž' => 'z',
            other => other,
        })
        .collect()
}

#[rustfmt::skip]
pub(super) const STREET_PREFIXES: &[&str] = &[
    "rue", "avenue", "boulevard", "calle", "avenida", "plaza", "paseo", "via", "viale", "piazza", "corso", "rua",
    "praça", "travessa", "ul", "ulica", "ulice", "aleja", "al", "allée", "place", "chemin", "impasse", "quai",
    "carrer", "camino", "carretera", "jalan", "rúa", "cours", "strada", "largo", "vicolo", "estrada", "postboks",
];

#[rustfmt::skip]
const STREET_ENDINGS: &[&str] = &[
    "straße", "strasse", "strase", "gasse", "allee", "platz", "weg", "gatan", "gata", "gate", "gaten", "vägen",
    "vej", "veien", "vegen", "vænget", "torget", "torv", "stræde", "gade", "katu", "tie", "kuja", "polku",
    "straat", "laan", "plein", "gracht", "kade", "steeg", "utca", "tér", "út", "vei", "veg", "väg", "gränd",
    "backen", "stigen", "stien", "brücke", "ufer", "damm", "ring", "dreef", "singel", "tänav", "terrasse", "ská",
    "ova ulice", "gasse", "brautt", "braut", "vangur", "götu", "vegur", "holt", "hlíð", "ovgade",
];

const CALENDAR: &str = "monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays fridays saturdays sundays \
    january february march april may june july august september october november december jan feb mar apr jun jul aug sep sept oct nov dec \
    christmas easter ramadan hanukkah thanksgiving halloween passover diwali";

const PEOPLES: &str = "american americans british english englishman scottish welsh irish french german germans italian italians spanish \
    portuguese dutch belgian swiss austrian swedish norwegian danish finnish icelandic polish czech slovak slovenian slovene hungarian \
    romanian bulgarian greek turkish russian russians ukrainian belarusian serbian croatian bosnian albanian macedonian estonian latvian \
    lithuanian jewish israeli arab arabic egyptian moroccan algerian tunisian libyan sudanese ethiopian kenyan nigerian ghanaian african \
    africans asian asians european europeans indian indians pakistani bangladeshi nepalese chinese japanese korean vietnamese thai cambodian \
    indonesian malaysian filipino australian canadian canadians mexican brazilian argentine argentinian chilean peruvian colombian \
    venezuelan cuban haitian jamaican christian christians catholic protestant orthodox muslim muslims islamic islam hindu buddhist roman \
    latin hebrew persian iranian iraqi syrian lebanese saudi kurdish afghan mongolian tibetan native hispanic latino caucasian soviet ottoman \
    byzantine victorian greenlander swede dane finn norwegians scot celtic gaelic nordic scandinavian balkan caribbean";

const TERMS: &str = "internet facebook twitter google microsoft apple amazon netflix youtube wikipedia ibm sony samsung intel nokia toyota honda ford \
    bbc cnn nbc abc cbs fox fbi cia nasa nato un eu usa uk us tv dvd cd pc dna hiv aids covid gps usb html http xml api sql json pdf id ok pm am \
    god jesus christ bible allah lord satan olympic olympics nobel oscar grammy emmy grammys oscars nfl nba mlb nhl fifa uefa linux windows \
    android iphone ipad mac python java rust javascript excel powerpoint bot user assistant system admin administrator customer agent server \
    client patient sender recipient yes no north south east west northern southern eastern western northeast northwest southeast southwest \
    i mr mrs ms dr ii iii iv vi vii viii ix xi re fwd cc bcc ps fyi asap faq rsvp etc attn dob ssn visa mastercard amex email e-mail paypal";

const MORE_VOCABULARY: &str = "producer orchestra pirate blink website websites email emails online guys okay hi hello hey bye please thanks \
    dude album albums guitar guitarist singer songwriter drummer bassist actor actress director film films movie movies series episode season \
    championship tournament league football basketball baseball hockey soccer tennis cricket rugby golf racing coach player players team \
    teams club clubs stadium museum gallery theater theatre opera symphony concert festival university college school academy institute \
    hospital church cathedral temple mosque palace castle bridge tower airport station railway highway river lake mountain ocean island \
    county district province republic kingdom empire federation union parliament senate congress ministry department bureau agency commission \
    committee council court police army navy corps regiment battalion brigade division squadron fleet war battle treaty election president \
    minister secretary governor mayor senator congressman ambassador king queen prince princess duke earl baron bishop pope cardinal priest \
    professor doctor captain colonel general major lieutenant sergeant admiral chairman chief executive officer manager editor author poet \
    novelist historian philosopher scientist engineer architect lawyer judge attorney accountant analyst consultant packager operator \
    administrator technician assistant associate representative specialist supervisor coordinator planner trainer therapist nurse surgeon \
    physician dentist pharmacist librarian teacher lecturer statement billing address mobile fax phone telephone office desk website subject \
    regards sincerely dear attention notice warning error section chapter figure table appendix introduction conclusion abstract summary \
    title name date time place where when who why how what which while although because however therefore moreover furthermore meanwhile \
    nevertheless otherwise instead perhaps maybe indeed actually basically finally initially originally previously currently recently";

const PLACE_NAMES: &str = "afghanistan, albania, algeria, andorra, angola, argentina, armenia, australia, austria, azerbaijan, bahamas, bahrain, \
    bangladesh, barbados, belarus, belgium, belize, benin, bhutan, bolivia, bosnia, botswana, brazil, brunei, bulgaria, burundi, cambodia, \
    cameroon, canada, chile, china, colombia, congo, croatia, cuba, cyprus, czechia, denmark, djibouti, dominica, ecuador, egypt, england, \
    eritrea, estonia, ethiopia, europe, fiji, finland, france, gabon, gambia, germany, ghana, greece, greenland, grenada, guatemala, guinea, \
    guyana, haiti, honduras, hungary, iceland, india, indonesia, iran, iraq, ireland, israel, italy, jamaica, japan, kazakhstan, kenya, \
    korea, kosovo, kuwait, laos, latvia, lebanon, lesotho, liberia, libya, liechtenstein, lithuania, luxembourg, madagascar, malawi, \
    malaysia, maldives, mali, malta, mauritania, mauritius, mexico, moldova, monaco, mongolia, montenegro, morocco, mozambique, myanmar, \
    namibia, nepal, netherlands, nicaragua, niger, nigeria, norway, oman, pakistan, palestine, panama, paraguay, peru, philippines, poland, \
    portugal, qatar, romania, russia, rwanda, samoa, scotland, senegal, serbia, seychelles, singapore, slovakia, slovenia, somalia, spain, \
    sudan, suriname, sweden, switzerland, syria, taiwan, tajikistan, tanzania, thailand, togo, tonga, tunisia, turkey, turkmenistan, uganda, \
    ukraine, uruguay, uzbekistan, vanuatu, venezuela, vietnam, wales, yemen, zambia, zimbabwe, africa, asia, america, antarctica, britain, \
    united states, united kingdom, new zealand, south africa, saudi arabia, sri lanka, costa rica, el salvador, puerto rico, south korea, \
    north korea, czech republic, hong kong, great britain, northern ireland, united arab emirates, dominican republic, sierra leone, ivory coast, \
    alabama, alaska, arizona, arkansas, california, colorado, connecticut, delaware, florida, georgia, hawaii, idaho, illinois, indiana, \
    iowa, kansas, kentucky, louisiana, maine, maryland, massachusetts, michigan, minnesota, mississippi, missouri, montana, nebraska, nevada, \
    new hampshire, new jersey, new mexico, new york, north carolina, north dakota, ohio, oklahoma, oregon, pennsylvania, rhode island, \
    south carolina, south dakota, tennessee, texas, utah, vermont, virginia, washington, west virginia, wisconsin, wyoming, ontario, quebec, \
    manitoba, alberta, saskatchewan, british columbia, nova scotia, new south wales, victoria, queensland, tasmania, bavaria, saxony, \
    catalonia, andalusia, tuscany, sicily, lombardy, provence, normandy, brittany, yorkshire, cornwall, kent, essex, sussex, surrey, devon, \
    london, paris, berlin, madrid, rome, vienna, prague, budapest, warsaw, lisbon, athens, dublin, brussels, amsterdam, stockholm, oslo, \
    copenhagen, helsinki, moscow, kiev, kyiv, minsk, istanbul, ankara, cairo, tokyo, osaka, kyoto, beijing, shanghai, shenzhen, guangzhou, \
    delhi, new delhi, mumbai, kolkata, chennai, bangalore, hyderabad, karachi, lahore, dhaka, bangkok, hanoi, jakarta, manila, seoul, busan, \
    sydney, melbourne, brisbane, perth, adelaide, canberra, auckland, wellington, toronto, montreal, vancouver, ottawa, calgary, edmonton, \
    winnipeg, chicago, los angeles, san francisco, san diego, san jose, san antonio, houston, dallas, austin, philadelphia, phoenix, boston, \
    seattle, portland, denver, detroit, atlanta, miami, orlando, tampa, baltimore, cleveland, cincinnati, pittsburgh, milwaukee, minneapolis, \
    st louis, kansas city, las vegas, salt lake city, new orleans, nashville, memphis, charlotte, raleigh, sacramento, oakland, buffalo, albany, \
    rochester, manhattan, brooklyn, queens, bronx, hollywood, harlem, birmingham, manchester, liverpool, leeds, sheffield, bristol, glasgow, \
    edinburgh, cardiff, belfast, oxford, cambridge, brighton, nottingham, leicester, southampton, newcastle, munich, hamburg, frankfurt, \
    cologne, stuttgart, dresden, leipzig, hanover, bremen, zurich, geneva, basel, bern, milan, naples, turin, venice, florence, genoa, bologna, \
    barcelona, valencia, seville, bilbao, granada, porto, lyon, marseille, nice, toulouse, bordeaux, lille, strasbourg, rotterdam, antwerp, \
    krakow, gdansk, bucharest, sofia, belgrade, zagreb, riga, vilnius, tallinn, nairobi, lagos, accra, johannesburg, cape town, casablanca, \
    tunis, baghdad, tehran, riyadh, dubai, doha, jerusalem, tel aviv, beirut, damascus, havana, bogota, lima, santiago, buenos aires, sao paulo, \
    rio de janeiro, brasilia, caracas, quito, montevideo, mexico city, guadalajara, jordan, chad, georgia, mesa, dakar, kabul, hiroshima, \
    nagasaki, waterloo, hampton, windsor, richmond, lincoln, columbus, jackson, madison, carolina, dakota, jersey, hampshire, mediterranean, \
    atlantic, pacific, arctic, caribbean, himalayas, alps, danube, rhine, thames, nile, amazon, mississippi river, broadway, wall street, \
    white house, capitol hill, silicon valley, middle east, latin america, north america, south america, central america";

const ORGANIZATION_WORDS: &str = "inc inc. corp corp. corporation company co ltd llc plc gmbh ag sa nv bv limited group holdings partners associates \
    industries enterprises systems technologies technology solutions services software bank trust fund foundation institute institution university \
    college school academy hospital clinic church cathedral museum gallery theater theatre orchestra band records recordings studios pictures \
    entertainment productions press publishing books magazine newspaper times post herald tribune journal gazette news radio television network \
    airlines airways railway railroad motors automotive pharmaceuticals laboratories labs energy oil gas electric power airport station stadium \
    arena park gardens center centre hall house hotel inn resort restaurant cafe bar pub club fc afc united rovers athletic association federation \
    league union society committee council commission agency department ministry office bureau court police army navy force corps regiment division \
    party government parliament congress senate republic kingdom empire county city town village district province island islands river lake mountain \
    mount valley bay beach creek canyon desert forest bridge tower castle palace temple mosque street st road rd avenue ave boulevard blvd lane ln \
    drive court square plaza highway award awards prize cup championship championships tournament open festival games series act bill treaty \
    agreement convention conference project program programme system theory theorem law effect syndrome disease test method algorithm \
    novel song songs album film movie show tales hockey football rugby basketball baseball country concert century war wars battle era dynasty \
    magazine cars airbus boeing missile railways university's museum's";

const STREET_SUFFIXES: &str = "street st avenue ave av road rd boulevard blvd lane ln drive dr court ct circle cir place pl square sq terrace ter way \
    parkway pkwy highway hwy trail trl loop crescent cres close grove gardens mews row walk alley aly plaza plz turnpike tpke expressway expwy \
    crossing xing path pike ridge view vista hill heights heights point pointe parade esplanade promenade quay rise green croft drove wharf \
    streets roads avenues courts coves cove parks park meadow meadows mill mills run pass passage island islands extension extensions extn \
    freeway fwy junction jct knoll landing manor mount orchard oval shore shores spring springs summit valley villas yard bypass";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_of_every_word_and_of_others_what_the_lists_say() {
        let words = Lists::words();
        for (word, lists) in &words {
            assert_eq!(LISTS.words.get(word.as_bytes()), *lists, "{word}");
            let changed = [
                word.to_uppercase(),
                format!("{word}x"),
                word.chars().rev().collect(),
                word[..word.floor_char_boundary(word.len() - 1)].to_owned(),
            ];
            for other in changed {
                assert_eq!(
                    LISTS.words.get(other.as_bytes()),
                    words.get(other.as_str()).copied().unwrap_or(0),
                    "{other}"
                );
            }
        }
    }

    #[test]
    fn given_names_that_are_nothing_else_may_be_first() {
        let mut passed = 0;
        for (word, _) in Lists::words().iter().filter(|(word, lists)| word.len() > 3 && **lists & u16::from(FIRST) != 0)
        {
            let other = is_common(word) || is_place(word) || is_capitalized_term(word);
            assert!(other || may_be_first(word.as_bytes()), "{word}");
            passed += usize::from(!other);
        }
        assert!(passed > 1000, "{passed}");
        assert!(!may_be_first(b"word"));
    }
}
