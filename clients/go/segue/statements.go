package segue

import (
	"strings"
	"sync"
)

// knownMax bounds what is remembered of statements.
const knownMax = 2048

// known is what was learned about a statement.
type known struct {
	// writes: the sidecar refused it as a read.
	writes bool
	// encoding: whether its columns can be decoded from packed rows.
	encoding encoding
	// short: its last answer was one part.
	short bool
	// keyless: it cannot have an idempotency key.
	keyless bool
	// types are those of its parameters; nil where nobody had to ask.
	types []string
}

type encoding int

const (
	undecided encoding = iota
	packed
	typed
)

type statements struct {
	mu    sync.Mutex
	known map[string]known
}

func (s *statements) get(query string) known {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[query]
}

func (s *statements) learn(query string, change func(*known)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry, found := s.known[query]
	change(&entry)
	if s.known == nil {
		s.known = make(map[string]known)
	}
	if !found && len(s.known) >= knownMax {
		// Any one: what is forgotten is learned again.
		for old := range s.known {
			delete(s.known, old)
			break
		}
	}
	s.known[query] = entry
}

// firstWord gives the statement's first word in capitals, behind comments and parentheses.
func firstWord(query string) string {
	rest := query
	for {
		rest = strings.TrimLeft(rest, " \t\r\n\f\v(;")
		switch {
		case strings.HasPrefix(rest, "--"):
			_, after, found := strings.Cut(rest, "\n")
			if !found {
				return ""
			}
			rest = after
		case strings.HasPrefix(rest, "/*"):
			rest = afterComment(rest)
		default:
			end := strings.IndexFunc(rest, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') })
			if end < 0 {
				end = len(rest)
			}
			return strings.ToUpper(rest[:end])
		}
	}
}

// afterComment skips a comment, in which others may lie.
func afterComment(text string) string {
	depth := 0
	for at := 0; at+1 < len(text); at++ {
		switch text[at : at+2] {
		case "/*":
			depth++
			at++
		case "*/":
			depth--
			at++
			if depth == 0 {
				return text[at+1:]
			}
		}
	}
	return ""
}

// mayRead says whether a statement is worth an attempt as a read. Where it writes all the same, the
// sidecar refuses it unapplied, and it is remembered.
func mayRead(query string) bool {
	if _, named := statementName(query); named {
		return true
	}
	switch firstWord(query) {
	case "SELECT", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN":
		return true
	default:
		return false
	}
}
