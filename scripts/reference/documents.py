#!/usr/bin/env python3
"""Makes bedrock-rag/tests/fixtures/documents and the seeds of bedrock-rag/fuzz: small documents of each format, and hostile ones.

    python3 -m venv .venv
    .venv/bin/pip install python-docx==1.2.0 openpyxl==3.1.5 xlwt==1.3.0 reportlab==4.4.4 pypdf==6.1.1 cryptography
    .venv/bin/python scripts/reference/documents.py

What the libraries can't write (tracked changes, footnotes, values of formulas, Word 97) is written by hand here.
"""

import datetime
import io
import pathlib
import struct
import zipfile
import zlib

import docx
import openpyxl
import pypdf
import xlwt
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen import canvas

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "bedrock-rag" / "tests" / "fixtures" / "documents"
WHEN = (2024, 5, 1, 12, 0, 0)
W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def archive(entries):
    """A ZIP archive with fixed times."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name, content in entries:
            info = zipfile.ZipInfo(name, WHEN)
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, content)
    return out.getvalue()


def repack(content, changes=None, added=(), without=("\0",)):
    """An archive again, with parts changed, added or left out, and fixed times."""
    entries = []
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        for name in file.namelist():
            if name.startswith(without):
                continue
            part = file.read(name)
            if changes and name in changes:
                part = changes[name](part.decode()).encode()
            entries.append((name, part))
    return archive(entries + list(added))


def word(body, parts=()):
    """A .docx of nothing but a body, and parts as (kind, name, xml)."""
    document = (
        f'<?xml version="1.0"?><w:document xmlns:w="{W}" xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
        f' xmlns:v="urn:schemas-microsoft-com:vml" xmlns:wps="wps" xmlns:r="{OFFICE}"><w:body>{body}</w:body></w:document>'
    )
    related = "".join(
        f'<Relationship Id="r{index}" Type="{OFFICE}/{kind}" Target="{name}"/>' for index, (kind, name, _) in enumerate(parts)
    )
    return archive(
        [
            ("[Content_Types].xml", f'<Types xmlns="{PACKAGE}/content-types"/>'),
            (
                "_rels/.rels",
                f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r" Type="{OFFICE}/officeDocument"'
                ' Target="word/document.xml"/></Relationships>',
            ),
            ("word/document.xml", document),
            (
                "word/_rels/document.xml.rels",
                f'<Relationships xmlns="{PACKAGE}/relationships">{related}<Relationship Id="out" Type="{OFFICE}/image"'
                ' Target="http://example.invalid/picture.png" TargetMode="External"/></Relationships>',
            ),
        ]
        + [(f"word/{name}", f'<?xml version="1.0"?>{xml}') for _, name, xml in parts]
    )


def p(text):
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def report_docx():
    """Headings, lists, a table, properties: by python-docx."""
    document = docx.Document()
    properties = document.core_properties
    properties.title, properties.author = "Yearly report", "Ada Writer"
    properties.created = properties.modified = datetime.datetime(*WHEN)
    document.add_heading("Yearly report", 0)
    document.add_heading("Results", 1)
    document.add_paragraph("It was a good year & <better> than before.")
    document.add_paragraph("First point", "List Bullet")
    document.add_paragraph("Second point", "List Number")
    table = document.add_table(3, 3)
    for row, cells in enumerate([("Quarter", "Region", "Sales"), ("Q1", "North", "10"), ("Q2", "South", "20")]):
        for cell, text in zip(table.rows[row].cells, cells):
            cell.text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    document.add_heading("Outlook", 2)
    document.add_paragraph("Brighter still.")
    document.sections[0].footer.paragraphs[0].text = "Footer of the report"
    out = io.BytesIO()
    document.save(out)
    # The template's fonts, themes and pictures say nothing here.
    return repack(out.getvalue(), without=("docProps/thumbnail", "word/theme", "customXml", "word/stylesWithEffects"))


def changes_docx():
    """Tracked changes, hidden text, fields, notes, text boxes in both forms, symbols, breaks."""
    box = f"<w:txbxContent>{p('Text in a box')}</w:txbxContent>"
    body = (
        "<w:p><w:r><w:t>Kept </w:t></w:r><w:ins><w:r><w:t>inserted</w:t></w:r></w:ins>"
        "<w:del><w:r><w:delText>deleted</w:delText></w:r></w:del><w:moveFrom><w:r><w:t>moved away</w:t></w:r></w:moveFrom>"
        "<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r><w:r><w:t xml:space='preserve'> end.</w:t></w:r></w:p>"
        "<w:p><w:pPr><w:rPr><w:del/></w:rPr></w:pPr><w:r><w:t>Joined </w:t></w:r></w:p>" + p("with the next.")
        + "<w:p><w:r><w:fldChar w:fldCharType='begin'/></w:r><w:r><w:instrText>PAGEREF x</w:instrText></w:r>"
        "<w:r><w:fldChar w:fldCharType='separate'/></w:r><w:r><w:t>Result</w:t></w:r><w:r><w:fldChar w:fldCharType='end'/></w:r>"
        "<w:hyperlink r:id='out'><w:r><w:t> linked</w:t></w:r></w:hyperlink>"
        "<w:r><w:footnoteReference w:id='2'/></w:r><w:r><w:t> and noted</w:t></w:r></w:p>"
        f"<w:p><w:r><mc:AlternateContent><mc:Choice><w:drawing><wps:txbx>{box}</wps:txbx></w:drawing></mc:Choice>"
        f"<mc:Fallback><w:pict><v:textbox>{box}</v:textbox></w:pict></mc:Fallback></mc:AlternateContent></w:r>"
        "<w:r><w:t>Alpha</w:t><w:sym w:font='Symbol' w:char='F061'/><w:noBreakHyphen/><w:t>x</w:t><w:br/><w:t>broken</w:t></w:r></w:p>"
        "<w:tbl><w:tr><w:trPr><w:tblHeader/></w:trPr><w:tc>" + p("Name") + "</w:tc><w:tc>" + p("Value") + "</w:tc></w:tr>"
        "<w:tr><w:trPr><w:del/></w:trPr><w:tc>" + p("gone") + "</w:tc><w:tc>" + p("row") + "</w:tc></w:tr>"
        "<w:tr><w:tc>" + p("a") + p("b") + "</w:tc><w:tc>" + p("1") + "</w:tc></w:tr></w:tbl>"
        "<w:sdt><w:sdtContent>" + p("In a control.") + "</w:sdtContent></w:sdt>"
    )
    notes = (
        f"<w:footnotes xmlns:w='{W}'><w:footnote w:type='separator' w:id='0'>{p('line')}</w:footnote>"
        f"<w:footnote w:id='2'>{p('The note itself.')}</w:footnote></w:footnotes>"
    )
    header = f"<w:hdr xmlns:w='{W}'>{p('Running head')}</w:hdr>"
    return word(body, [("footnotes", "footnotes.xml", notes), ("header", "header1.xml", header), ("header", "header2.xml", header)])


def book_xlsx():
    """Dates, percentages, merged cells, a hidden sheet; the value of a formula is put in by hand."""
    book = openpyxl.Workbook()
    book.properties.title, book.properties.creator = "Prices", "Ada Writer"
    book.properties.created = book.properties.modified = datetime.datetime(*WHEN)
    sheet = book.active
    sheet.title = "Prices & dates"
    sheet.append(["Item", "From", "Share", "Price", "Sum", "Open"])
    sheet.append(["Tea", datetime.date(2024, 5, 1), 0.125, 3.5, "=D2*2", True])
    sheet.append(["Café", datetime.datetime(2024, 12, 24, 18, 30), 1, 1234.5, None, None])
    sheet["B2"].number_format = "yyyy-mm-dd"
    sheet["B3"].number_format = "d mmm yyyy hh:mm"
    sheet["C2"].number_format, sheet["C3"].number_format = "0.0%", "0%"
    sheet["D3"].number_format = "#,##0.00 [$€-407]"
    sheet["A6"] = "Merged over three"
    sheet.merge_cells("A6:C6")
    hidden = book.create_sheet("Secret")
    hidden["B2"] = "in the hidden sheet"
    hidden.sheet_state = "hidden"
    book.create_sheet("Empty")
    out = io.BytesIO()
    book.save(out)
    return repack(out.getvalue(), {"xl/worksheets/sheet1.xml": lambda xml: xml.replace("<f>D2*2</f><v></v>", "<f>D2*2</f><v>7</v>").replace("<f>D2*2</f><v />", "<f>D2*2</f><v>7</v>")})


def book_xls():
    book = xlwt.Workbook()
    sheet = book.add_sheet("Prices")
    for column, name in enumerate(["Item", "From", "Share", "Price"]):
        sheet.write(0, column, name)
    sheet.write(1, 0, "Käse 漢字")
    sheet.write(1, 1, datetime.date(2024, 5, 1), xlwt.easyxf(num_format_str="yyyy-mm-dd"))
    sheet.write(1, 2, 0.25, xlwt.easyxf(num_format_str="0%"))
    sheet.write(1, 3, 2.5)
    sheet.write_merge(3, 3, 0, 2, "Merged")
    sheet.write(3, 3, True)
    for row in range(4, 9):
        sheet.write(row, 1, row * 1000)
    # More strings than one record holds.
    strings = book.add_sheet("Strings")
    for row in range(60):
        strings.write(row, 0, f"string {row} " + "long wörds " * 15)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def compound(streams):
    """An OLE compound file of streams that are large enough not to need the small sectors."""
    sector, end, free, table = 512, 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD
    content, fat, entries = b"", [table], []
    # Sector 0 holds the table of sectors, sector 1 and 2 the directory.
    fat += [2, end]
    # Readers find names by halving: shorter ones come first.
    for name, data in sorted(streams, key=lambda stream: (len(stream[0]), stream[0].upper())):
        assert len(data) >= 4096
        data += b"\0" * (-len(data) % sector)
        first = len(fat)
        count = len(data) // sector
        fat += [first + index + 1 for index in range(count - 1)] + [end]
        entries.append((name, first, len(data)))
        content += data
    assert len(fat) <= 128
    fat += [free] * (128 - len(fat))

    def entry(name, kind, right, child, first, size):
        wide = name.encode("utf-16-le")
        return (
            wide.ljust(64, b"\0") + struct.pack("<HBB", len(wide) + 2 if name else 0, kind, 1)
            + struct.pack("<III", free, right, child) + b"\0" * 36 + struct.pack("<IQ", first, size)
        )

    directory = entry("Root Entry", 5, free, 1 if entries else free, end, 0)
    for index, (name, first, size) in enumerate(entries):
        right = index + 2 if index + 1 < len(entries) else free
        directory += entry(name, 2, right, free, first, size)
    while len(directory) < 2 * sector:
        directory += entry("", 0, free, free, 0, 0)
    header = (
        bytes.fromhex("D0CF11E0A1B11AE1") + b"\0" * 16 + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + b"\0" * 6
        + struct.pack("<IIIIIIIII", 0, 1, 1, 0, 4096, end, 0, end, 0) + struct.pack("<I", 0) + b"\xFF" * 432
    )
    return header + struct.pack("<128I", *fat) + directory + content


def old_doc(encrypted=False):
    """Word 97: a piece of one byte a character and one of two, in the other order than in the text; deleted text, a heading,
    a table, a field, a footnote."""
    first = "Heading\rWith “quotes” and \x13HYPERLINK x\x14a link\x15 and a note\x02.\r"
    second = "Ελληνικά gone kept\rA\x07B\x07\x07" + "1\x07漢\x07\x07" + "Last.\r"
    note = "\x02 The note.\r"
    first_bytes = first.encode("cp1252")
    wide = (second + note).encode("utf-16-le")
    # The wide piece lies before the narrow one.
    wide_at, narrow_at = 1024, 1536
    stream = bytearray(4096)
    stream[wide_at : wide_at + len(wide)] = wide
    stream[narrow_at : narrow_at + len(first_bytes)] = first_bytes
    gone = second.index("gone ")

    def page(at, runs, width):
        """A page of runs (start, end, properties): positions, then offsets, with what they point to from the end."""
        out = bytearray(512)
        positions = [runs[0][0]] + [run[1] for run in runs]
        struct.pack_into(f"<{len(positions)}I", out, 0, *positions)
        free = 511
        for index, (_, _, properties) in enumerate(runs):
            offset = 0
            if properties:
                free = (free - len(properties)) & ~1
                out[free : free + len(properties)] = properties
                offset = free // 2
            out[len(positions) * 4 + index * width] = offset
        out[511] = len(runs)
        stream[at : at + 512] = out

    deleted = bytes([3]) + struct.pack("<HB", 0x0800, 1)
    start = wide_at + gone * 2
    page(2048, [(wide_at, start, b""), (start, start + 10, deleted), (start + 10, narrow_at + len(first_bytes), b"")], 1)

    def paragraph(style, *changes):
        body = struct.pack("<H", style) + b"".join(struct.pack("<HB", code, 1) for code in changes)
        return bytes([0, len(body) // 2]) + body if len(body) % 2 == 0 else bytes([(len(body) + 1) // 2]) + body

    runs, at = [], wide_at
    for text in ["Ελληνικά gone kept\r", "A\x07B\x07", "\x07", "1\x07漢\x07", "\x07", "Last.\r" + note]:
        changes = {"A": (0x2416,), "1": (0x2416,), "\x07": (0x2416, 0x2417)}.get(text[0], ())
        runs.append((at, at + len(text) * 2, paragraph(0, *changes)))
        at += len(text) * 2
    runs.append((at, narrow_at, b""))
    runs.append((narrow_at, narrow_at + 8, paragraph(1)))
    runs.append((narrow_at + 8, narrow_at + len(first_bytes), paragraph(0)))
    page(2560, runs, 13)

    main, notes = len(first) + len(second), len(note)
    tables = bytearray()
    pairs = {}

    def put(number, content):
        pairs[number] = (len(tables), len(content))
        tables.extend(content)

    pieces = struct.pack("<3I", 0, len(first), main + notes)
    pieces += struct.pack("<HIH", 0, 0x40000000 | narrow_at * 2, 0) + struct.pack("<HIH", 0, wide_at, 0)
    put(33, b"\x02" + struct.pack("<I", len(pieces)) + pieces)
    put(12, struct.pack("<3I", wide_at, narrow_at + len(first_bytes), 2048 // 512))
    put(13, struct.pack("<3I", wide_at, narrow_at + len(first_bytes), 2560 // 512))
    put(2, struct.pack("<2IH", first.index("\x02"), main, 1))
    put(3, struct.pack("<2I", 0, notes))
    flags = 0x1200 | (0x0100 if encrypted else 0)
    struct.pack_into("<HHHHHH", stream, 0, 0xA5EC, 0x00C1, 0, 0x0409, 0, flags)
    struct.pack_into("<H", stream, 32, 14)
    struct.pack_into("<H", stream, 62, 22)
    struct.pack_into("<II", stream, 64 + 3 * 4, main, notes)
    struct.pack_into("<H", stream, 152, 93)
    for number, pair in pairs.items():
        struct.pack_into("<II", stream, 154 + number * 8, *pair)
    return compound([("WordDocument", bytes(stream)), ("1Table", bytes(tables).ljust(4096, b"\0"))])


def report_pdf():
    out = io.BytesIO()
    page = canvas.Canvas(out, pagesize=A4, invariant=True)
    page.setTitle("Annual figures")
    page.setAuthor("Ada Writer")
    page.setFont("Helvetica-Bold", 20)
    page.drawString(72, 760, "Annual figures")
    page.setFont("Times-Roman", 11)
    for line, text in enumerate(["The first paragraph has two lines", "and ends on the second one.", "", "Another paragraph: café, 10 €."]):
        page.drawString(72, 720 - 14 * line, text)
    for row, cells in enumerate([("Quarter", "Sales"), ("Q1", "10"), ("Q2", "20")]):
        for column, text in enumerate(cells):
            page.drawString(72 + 150 * column, 600 - 14 * row, text)
    # Two columns.
    for column in range(2):
        for line in range(3):
            page.drawString(72 + 250 * column, 500 - 14 * line, f"column {column + 1} line {line + 1}")
    page.showPage()
    page.setFont("Times-Roman", 11)
    page.setPageRotation(90)
    page.drawString(72, 720, "Text of the second page, which is turned.")
    page.save()
    return out.getvalue()


def rewritten(content, **encryption):
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(content))
    if encryption:
        writer.encrypt(**encryption)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def plain_pdf(objects):
    """A PDF without a table of references: readers look for the objects."""
    body = b"".join(b"%d 0 obj\n%s\nendobj\n" % (number, content) for number, content in objects.items())
    return b"%PDF-1.7\n" + body + b"trailer\n<</Root 1 0 R>>\n"


def stream(content, extra=b""):
    return b"<</Length %d%s>>\nstream\n%s\nendstream" % (len(content), extra, content)


def pages(kids, content):
    return {
        1: b"<</Type/Catalog/Pages 2 0 R>>",
        2: b"<</Type/Pages/Kids[%s]/Count 1>>" % kids,
        3: b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>/XObject<</X 6 0 R>>>>>>",
        4: content,
        5: b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        6: stream(b"/X Do /X Do /X Do", b"/Type/XObject/Subtype/Form/BBox[0 0 600 800]/Resources<</XObject<</X 6 0 R>>>>"),
    }


def bad():
    say = b"BT /F 12 Tf 50 700 Td (Visible text) Tj ET"
    bomb = zlib.compress(zlib.compress(say.ljust(80 << 20), 9), 9)
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    doctype = f'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY l0 "ha">{laughs}<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    entities = lambda name: archive(
        [("word/document.xml", f'{doctype}<w:document xmlns:w="{W}"><w:body>{p(f"&{name};")}</w:body></w:document>')]
    )
    sheet = lambda rows: archive(
        [
            (
                "_rels/.rels",
                f'<Relationships><Relationship Id="a" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
            ),
            ("xl/workbook.xml", f'<workbook xmlns:r="{OFFICE}"><sheets><sheet name="S" r:id="s"/></sheets></workbook>'),
            (
                "xl/_rels/workbook.xml.rels",
                f'<Relationships><Relationship Id="s" Type="{OFFICE}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
            ),
            ("xl/worksheets/sheet1.xml", f"<worksheet><sheetData>{rows}</sheetData></worksheet>"),
        ]
    )
    return {
        "entities.docx": entities("l9"),
        "external.docx": entities("x"),
        "deep.docx": word("<w:sdt><w:sdtContent>" * 20_000 + "</w:sdtContent></w:sdt>" * 20_000),
        "ratio.docx": word(p("A" * (8 << 20))),
        "paths.docx": repack(word(p("Text beside bad names.")), added=[("../../../../tmp/out-of-the-archive.txt", b"x"), ("/abs.txt", b"x")]),
        "nested.docx": repack(word(p("Text beside an archive.")), added=[("word/embeddings/inner.zip", archive([("zeros", b"\0" * 1_000_000)]))]),
        "truncated.docx": word(p("Never seen."))[:700],
        "far.xlsx": sheet('<row r="1048576"><c r="XFD1048576" t="inlineStr"><is><t>far away</t></is></c></row>'),
        "missing.xlsx": sheet('<row r="1"><c r="A1" t="s"><v>4294967295</v></c></row>'),
        "encrypted.doc": old_doc(encrypted=True),
        "no-word.doc": compound([("Workbook", b"\x09\x08\x04\0\0\x06\x05\0" + b"\0" * 4096)]),
        "bomb.pdf": plain_pdf(pages(b"3 0 R", stream(bomb, b"/Filter[/FlateDecode/FlateDecode]"))),
        "loop.pdf": plain_pdf(pages(b"2 0 R", stream(say))),
        "forms.pdf": plain_pdf(pages(b"3 0 R", stream(b"/X Do /X Do /X Do"))),
        "deep.pdf": plain_pdf(pages(b"3 0 R", stream(b"[" * 20_000 + b"]" * 20_000 + b" TJ"))),
        "header.pdf": b"%PDF-1.7\n",
        "encrypted.pdf": rewritten(report_pdf(), user_password="opensesame", owner_password="owner", algorithm="AES-256"),
    }


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    report = report_pdf()
    good = {
        "report.docx": report_docx(),
        "changes.docx": changes_docx(),
        "book.xlsx": book_xlsx(),
        "book.xls": book_xls(),
        "old.doc": old_doc(),
        "report.pdf": report,
        # The last bytes, with the place of the table of references, are missing.
        "broken.pdf": report[: report.rindex(b"xref\n0")],
        "open.pdf": rewritten(report, user_password="", owner_password="owner", algorithm="RC4-128"),
        "text.rtf": rb"{\rtf1\ansi\ansicpg1252 Caf\'e9 \u8364?5{\v hidden}\par\trowd\intbl A\cell B\cell\row\pard End}",
        "table.csv": "\ufeffItem;Price\r\n\"Tea; black\";3,50\r\n".encode("utf-16-le"),
    }
    hostile = bad()
    small = {name: content for name, content in (good | hostile).items() if len(content) < 12_000}
    corpus = ROOT / "bedrock-rag" / "fuzz" / "corpus"
    chunks = {"text": "Dr. A went. He said: \u300cstop\u3002\u300d".encode(), "table": b"| a | b |\n|---|---|\n| 1 | 2 |\n"}
    for folder, files in [(OUT, good), (OUT / "bad", hostile), (corpus / "extract", small), (corpus / "chunk", chunks)]:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
            print(f"{len(content):8} {folder.name}/{name}")


if __name__ == "__main__":
    main()
