//! Top-level domains, for addresses that have nothing else to tell them from a sentence with a missing space.

/// Generic domains that are in wide use.
const GENERIC: &str = " academy accountants agency ai airforce app art asia associates attorney auction audio band bank bar bargains \
    beauty beer best bet bid bike bio biz black blog blue boutique broker build builders business buzz cab cafe camera camp capital cards \
    care career careers cars casa cash casino cat center ceo charity chat cheap church city claims cleaning click clinic clothing cloud \
    club coach codes coffee college com community company computer condos construction consulting contact contractors cool coop coupons \
    courses credit creditcard cruises dance data date dating deals degree delivery democrat dental dentist design dev diamonds diet digital \
    direct directory discount doctor dog domains download earth eco edu education email energy engineer engineering enterprises equipment \
    estate events exchange expert exposed express fail faith family fans farm fashion film finance financial fish fit fitness flights \
    florist flowers football forsale foundation fun fund furniture futbol fyi gallery game games garden gift gifts gives glass global gmbh \
    gold golf gov graphics gratis green gripe group guide guitars guru hair haus health healthcare help holdings holiday homes horse \
    hospital host hosting hotel house icu immo immobilien inc industries info ink institute insure int international investments jetzt jewelry \
    jobs kaufen kim kitchen land law lawyer lease legal lgbt life lighting limited limo link live llc loan loans lol london love ltd ltda \
    luxury maison management market marketing mba media medical memorial men menu mil mobi moda moe money mortgage movie museum name navy \
    net network news ngo ninja observer one ong online org organic page paris parts party pet pharmacy photo photography photos pics pictures \
    pink pizza place plumbing plus poker porn press pro productions promo properties property protection pub racing realty recipes red rehab \
    reise reisen rent rentals repair report republican rest restaurant review reviews rich rip rocks run sale salon sarl school science \
    security services sex sexy shiksha shoes shop shopping show singles site ski soccer social software solar solutions space sport store \
    stream studio study style supplies supply support surf surgery swiss systems tattoo tax taxi team tech technology tel tennis theater \
    theatre tickets tips tires today tokyo tools top tours town toys trade trading training travel tube university uno vacations vegas \
    ventures vet viajes video villas vip vision vodka vote voyage watch webcam website wedding wiki win wine work works world wtf xxx xyz \
    yoga zone ";

/// Country codes that are not ISO 3166 codes of their own.
const OTHER_COUNTRIES: &str = " ac eu su uk tp ";

/// Country codes and generic domains that are also words, file extensions or abbreviations: a bare `main.rs` is a file.
const AMBIGUOUS: &str = " ai am app as at be bar best bio blue by cab cafe cash cat cc center city click cool data date de dev do \
    doctor dog download email es et exchange family fan fans farm fish fit fun game games gift gold green group guide help host hotel house \
    id in inc info ink io is it la land law life link live love ltd ma md me media men menu ml mo money my name ne network news no one or \
    pa page pet ph photo photos pics pictures pizza pl place plus pm press pro ps pub py red report rest rip rs run sale sc school science \
    sh show si site so social sport st store stream study style support tax team tel th tips to today tools top town trade travel tv us video \
    watch win wine work works world wiki zone ";

/// Whether this is a top-level domain, in either case.
pub(crate) fn is_known(top: &str) -> bool {
    let lower = top.to_ascii_lowercase();
    if let [a, b] = lower.as_bytes()
        && super::checksum::is_country([a.to_ascii_uppercase(), b.to_ascii_uppercase()])
    {
        return true;
    }
    listed(GENERIC, &lower) || listed(OTHER_COUNTRIES, &lower) || lower.starts_with("xn--")
}

/// Whether a name under this domain needs more evidence than its dots.
pub(crate) fn is_ambiguous(top: &str) -> bool {
    // These are in everyday use as domains in spite of being words.
    const COMMON: &str = " io de info ai us app dev site store ";
    let lower = top.to_ascii_lowercase();
    listed(AMBIGUOUS, &lower) && !listed(COMMON, &lower)
}

fn listed(list: &str, word: &str) -> bool {
    !word.is_empty() && !word.contains(' ') && list.split_ascii_whitespace().any(|entry| entry == word)
}
