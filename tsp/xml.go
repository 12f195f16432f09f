// SPDX-License-Identifier: GPL-2.0-or-later

package tsp

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// The XML of TSP is a few nested elements. This reader takes what the XML libraries behind clients write: elements, attributes, text,
// CDATA, comments, a prolog, a document type that declares nothing, the five predefined entities and references to characters. Any
// declaration, any other entity, and whatever is deeper or larger than a tunnel can be, are refused before memory is spent on
// them. Text that is not UTF-8 is taken as it is: names, numbers and addresses are ASCII. It is an order of magnitude cheaper
// than encoding/xml.

// Bounds of one document.
const (
	maxDepth      = 8
	maxElements   = 160 // a list of 50 brokers
	maxAttributes = 8
)

var errXML = errors.New("bad XML")

// element is one node. Its octets are those of the document, except where entities were replaced.
type element struct {
	name       []byte
	attributes []attribute
	text       []byte // all of it in one, blanks around each piece removed
	children   []element
}

type attribute struct{ name, value []byte }

// attr gives an attribute's value, nil if there is none.
func (e *element) attr(name string) []byte {
	for i := range e.attributes {
		if string(e.attributes[i].name) == name {
			return e.attributes[i].value
		}
	}
	return nil
}

// word gives an attribute's value that is one of a few words, in lower case.
func (e *element) word(name string) string {
	return string(bytes.ToLower(bytes.TrimSpace(e.attr(name))))
}

// xmlReader reads one document from the left.
type xmlReader struct {
	rest     []byte
	elements int
}

// parseXML reads a whole document; only blanks and NUL may follow the root element.
func parseXML(b []byte) (element, error) {
	b = bytes.TrimPrefix(bytes.TrimRight(b, "\x00"), []byte("\ufeff"))
	for _, c := range b {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' {
			return element{}, fmt.Errorf("%w: control character", errXML)
		}
	}
	r := xmlReader{rest: b}
	if err := r.prolog(); err != nil {
		return element{}, err
	}
	var root element
	if err := r.element(&root, 1); err != nil {
		return element{}, err
	}
	if err := r.misc(); err != nil {
		return element{}, err
	}
	if len(r.rest) > 0 {
		return element{}, fmt.Errorf("%w: text behind the last element", errXML)
	}
	return root, nil
}

// prolog skips all before the root element. A document type is read by nobody here; one that declares something wants to be.
func (r *xmlReader) prolog() error {
	if err := r.misc(); err != nil || !r.take("<!DOCTYPE") {
		return err
	}
	doctype, rest, found := bytes.Cut(r.rest, []byte{'>'})
	if !found || bytes.IndexByte(doctype, '[') >= 0 {
		return fmt.Errorf("%w: document type that declares something or does not end", errXML)
	}
	r.rest = rest
	return r.misc()
}

// misc skips blanks, comments and processing instructions.
func (r *xmlReader) misc() error {
	for {
		r.blanks()
		var end string
		switch {
		case r.has("<?"):
			end = "?>"
		case r.has("<!--"):
			end = "-->"
		default:
			return nil
		}
		_, rest, found := bytes.Cut(r.rest, []byte(end))
		if !found {
			return fmt.Errorf("%w: %s is missing", errXML, end)
		}
		r.rest = rest
	}
}

func (r *xmlReader) blanks() { r.rest = bytes.TrimLeft(r.rest, " \t\r\n") }

func (r *xmlReader) has(prefix string) bool { return bytes.HasPrefix(r.rest, []byte(prefix)) }

// take removes prefix if it is next.
func (r *xmlReader) take(prefix string) bool {
	if !r.has(prefix) {
		return false
	}
	r.rest = r.rest[len(prefix):]
	return true
}

// name takes a name, empty if there is none.
func (r *xmlReader) name() []byte {
	n := 0
	for n < len(r.rest) && nameByte(r.rest[n]) {
		n++
	}
	name := r.rest[:n]
	r.rest = r.rest[n:]
	return name
}

func nameByte(c byte) bool {
	return c == '_' || c == '-' || c == '.' || c == ':' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// element takes one element with all below it.
func (r *xmlReader) element(e *element, depth int) error {
	if !r.take("<") {
		return fmt.Errorf("%w: no element", errXML)
	}
	if e.name = r.name(); len(e.name) == 0 {
		return fmt.Errorf("%w: element without name", errXML)
	}
	if r.elements++; r.elements > maxElements || depth > maxDepth {
		return fmt.Errorf("%w: more than %d elements or %d levels", errXML, maxElements, maxDepth)
	}
	if err := r.attributes(e); err != nil {
		return err
	}
	if r.take("/>") {
		return nil
	}
	if !r.take(">") {
		return fmt.Errorf("%w: bad attribute in %.20s", errXML, e.name)
	}
	return r.content(e, depth)
}

// attributes takes all up to the end of a start tag.
func (r *xmlReader) attributes(e *element) error {
	for {
		before := len(r.rest)
		r.blanks()
		separated := len(r.rest) < before
		name := r.name()
		if len(name) == 0 {
			return nil
		}
		if !separated || e.attr(string(name)) != nil || len(e.attributes) == maxAttributes {
			return fmt.Errorf("%w: attribute %.20s twice, too many or not apart", errXML, name)
		}
		r.blanks()
		if !r.take("=") {
			return fmt.Errorf("%w: attribute %.20s without value", errXML, name)
		}
		r.blanks()
		if len(r.rest) == 0 || r.rest[0] != '"' && r.rest[0] != '\'' {
			return fmt.Errorf("%w: attribute %.20s without quotes", errXML, name)
		}
		quoted, rest, found := bytes.Cut(r.rest[1:], r.rest[:1])
		if !found || bytes.IndexByte(quoted, '<') >= 0 {
			return fmt.Errorf("%w: attribute %.20s without closing quote", errXML, name)
		}
		r.rest = rest
		value, err := unescape(quoted)
		if err != nil {
			return err
		}
		e.attributes = append(e.attributes, attribute{name, value})
	}
}

// content takes all up to and with the end tag.
func (r *xmlReader) content(e *element, depth int) error {
	for {
		n := bytes.IndexByte(r.rest, '<')
		if n < 0 {
			return fmt.Errorf("%w: %.20s is not closed", errXML, e.name)
		}
		text, err := unescape(r.rest[:n])
		if err != nil {
			return err
		}
		e.addText(text)
		r.rest = r.rest[n:]
		switch {
		case r.take("</"):
			name := r.name()
			r.blanks()
			if !bytes.Equal(name, e.name) || !r.take(">") {
				return fmt.Errorf("%w: %.20s is not closed", errXML, e.name)
			}
			return nil
		case r.take("<![CDATA["):
			text, rest, found := bytes.Cut(r.rest, []byte("]]>"))
			if !found {
				return fmt.Errorf("%w: ]]> is missing", errXML)
			}
			e.addText(text)
			r.rest = rest
		case r.has("<!--"), r.has("<?"):
			if err := r.misc(); err != nil {
				return err
			}
		default:
			e.children = append(e.children, element{})
			if err := r.element(&e.children[len(e.children)-1], depth+1); err != nil {
				return err
			}
		}
	}
}

// addText joins what comments, children and CDATA part.
func (e *element) addText(piece []byte) {
	piece = bytes.Trim(piece, " \t\r\n")
	if len(e.text) == 0 {
		e.text = piece
	} else if len(piece) > 0 {
		e.text = slices.Concat(e.text, piece)
	}
}

// predefined are the entities of XML 1.0 section 4.6; there are no others, but references to characters.
var predefined = [...]struct {
	entity    string
	character byte
}{{"&lt;", '<'}, {"&gt;", '>'}, {"&amp;", '&'}, {"&apos;", '\''}, {"&quot;", '"'}}

// unescape replaces entities and references to characters. The result is never nil, nor longer than b.
func unescape(b []byte) ([]byte, error) {
	if bytes.IndexByte(b, '&') < 0 {
		return b, nil
	}
	out := make([]byte, 0, len(b))
next:
	for len(b) > 0 {
		if b[0] != '&' {
			out, b = append(out, b[0]), b[1:]
			continue
		}
		for _, p := range predefined {
			if bytes.HasPrefix(b, []byte(p.entity)) {
				out, b = append(out, p.character), b[len(p.entity):]
				continue next
			}
		}
		c, n := characterReference(b)
		if n == 0 {
			return nil, fmt.Errorf("%w: unknown entity %.10q", errXML, b)
		}
		out, b = utf8.AppendRune(out, c), b[n:]
	}
	return out, nil
}

// characterReference reads &#233; or &#xE9; (XML 1.0 section 4.1) at the start of b, n octets long; 0 if it is none or no
// character of XML.
func characterReference(b []byte) (c rune, n int) {
	end := bytes.IndexByte(b, ';')
	digits, found := bytes.CutPrefix(b[:max(end, 0)], []byte("&#"))
	if !found {
		return 0, 0
	}
	base := 10
	if hex, found := bytes.CutPrefix(digits, []byte{'x'}); found {
		digits, base = hex, 16
	}
	code, err := strconv.ParseUint(string(digits), base, 21)
	c = rune(code)
	if err != nil || c < ' ' && c != '\t' && c != '\n' && c != '\r' || !utf8.ValidRune(c) {
		return 0, 0
	}
	return c, end + 1
}

// appendEscaped writes text so that it is only text again.
func appendEscaped(dst []byte, text string) []byte {
next:
	for i := range len(text) {
		for _, p := range predefined {
			if text[i] == p.character {
				dst = append(dst, p.entity...)
				continue next
			}
		}
		dst = append(dst, text[i])
	}
	return dst
}
