// Treecheck reads a log's public files with the libraries of Go's checksum database, and writes logs of its own for
// others to read. It shares no line with the log that it reads.
//
//	treecheck read DIRECTORY LOG_VKEY [WITNESS_VKEY ...]    verify checkpoint, tiles, every entry and every past tree
//	treecheck write DIRECTORY SIZE ORIGIN SEED              make a log; the proofs that it has for it go to standard output
//	treecheck grow OLD_SIZE DIRECTORY SIZE ORIGIN SEED      the same, and how the tree of OLD_SIZE became it
//
// Tiles and bundles are laid out as in C2SP tlog-tiles: 256 wide, without the height in their paths.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	height    = 8
	width     = 1 << height
	algCosign = 4
	maxPast   = 64  // past trees of a long log whose growth is checked
	maxProofs = 256 // entries of a long log whose inclusion is proved one by one; each is compared with its leaf
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "treecheck:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) >= 3 && args[0] == "read":
		return read(args[1], args[2], args[3:])
	case len(args) == 5 && args[0] == "write":
		return write(0, args[1:])
	case len(args) == 6 && args[0] == "grow":
		old, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil {
			return err
		}
		return write(old, args[2:])
	}
	return errors.New("usage: treecheck read DIRECTORY LOG_VKEY [WITNESS_VKEY ...] | write DIRECTORY SIZE ORIGIN SEED" +
		" | grow OLD_SIZE DIRECTORY SIZE ORIGIN SEED")
}

// Reading.

type reading struct {
	Origin  string   `json:"origin"`
	Size    int64    `json:"size"`
	Root    string   `json:"root"`
	Signers []string `json:"signers"`
	Unknown int      `json:"unknown"`
	Entries int64    `json:"entries"`
	Past    int      `json:"past"`
}

func read(directory, logKey string, witnessKeys []string) error {
	logVerifier, err := note.NewVerifier(logKey)
	if err != nil {
		return err
	}
	verifiers := []note.Verifier{logVerifier}
	for _, text := range witnessKeys {
		witness, err := newCosigner(text)
		if err != nil {
			return err
		}
		verifiers = append(verifiers, witness)
	}
	data, err := os.ReadFile(filepath.Join(directory, "checkpoint"))
	if err != nil {
		return err
	}
	opened, err := note.Open(data, note.VerifierList(verifiers...))
	if err != nil {
		return err
	}
	origin, tree, err := parseCheckpoint(opened.Text)
	if err != nil {
		return err
	}
	result := reading{Origin: origin, Size: tree.N, Root: hex.EncodeToString(tree.Hash[:]), Unknown: len(opened.UnverifiedSigs)}
	byLog := false
	for _, signature := range opened.Sigs {
		result.Signers = append(result.Signers, signature.Name)
		byLog = byLog || signature.Name == logVerifier.Name() && signature.Hash == logVerifier.KeyHash()
	}
	if !byLog {
		return errors.New("the log has not signed its checkpoint")
	}
	hashes := tlog.TileHashReader(tree, directoryTiles(directory))
	if result.Entries, err = checkEntries(directory, tree, hashes); err != nil {
		return err
	}
	if result.Past, err = checkPast(tree, hashes); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// A C2SP checkpoint begins with the log's origin, where the checksum database has a fixed line.
func parseCheckpoint(text string) (string, tlog.Tree, error) {
	origin, rest, found := strings.Cut(text, "\n")
	if !found {
		return "", tlog.Tree{}, errors.New("no checkpoint")
	}
	tree, err := tlog.ParseTree([]byte("go.sum database tree\n" + rest))
	return origin, tree, err
}

type directoryTiles string

func (directoryTiles) Height() int                     { return height }
func (directoryTiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (d directoryTiles) path(t tlog.Tile) string       { return filepath.Join(string(d), tilePath(t)) }
func (d directoryTiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, err := os.ReadFile(d.path(tile))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func tilePath(t tlog.Tile) string {
	path := strings.TrimPrefix(t.Path(), fmt.Sprintf("tile/%d/", height))
	return "tile/" + strings.Replace(path, "data/", "entries/", 1)
}

func checkEntries(directory string, tree tlog.Tree, hashes tlog.HashReader) (int64, error) {
	for first := int64(0); first < tree.N; first += width {
		count := tree.N - first
		if count > width {
			count = width
		}
		tile := tlog.Tile{H: height, L: -1, N: first / width, W: int(count)}
		bundle, err := os.ReadFile(filepath.Join(directory, tilePath(tile)))
		if err != nil {
			return 0, err
		}
		indexes := make([]int64, count)
		for at := range indexes {
			indexes[at] = tlog.StoredHashIndex(0, first+int64(at))
		}
		leaves, err := hashes.ReadHashes(indexes) // verified against the root on the way
		if err != nil {
			return 0, err
		}
		for at := first; at < first+count; at++ {
			if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
				return 0, fmt.Errorf("%s is cut short", tilePath(tile))
			}
			size := int(binary.BigEndian.Uint16(bundle))
			entry := bundle[2 : 2+size]
			bundle = bundle[2+size:]
			if tlog.RecordHash(entry) != leaves[at-first] {
				return 0, fmt.Errorf("entry %d is not the one in the tree", at)
			}
			if at%(tree.N/maxProofs+1) != 0 {
				continue
			}
			proof, err := tlog.ProveRecord(tree.N, at, hashes)
			if err != nil {
				return 0, err
			}
			if err := tlog.CheckRecord(proof, tree.N, tree.Hash, at, tlog.RecordHash(entry)); err != nil {
				return 0, fmt.Errorf("entry %d: %w", at, err)
			}
		}
		if len(bundle) != 0 {
			return 0, fmt.Errorf("%s is too long", tilePath(tile))
		}
	}
	return tree.N, nil
}

// The roots of past trees come from the tiles; each has to lead to the present one by a consistency proof.
func checkPast(tree tlog.Tree, hashes tlog.HashReader) (int, error) {
	step := tree.N/maxPast + 1
	checked := 0
	for size := int64(1); size <= tree.N; size += step {
		root, err := tlog.TreeHash(size, hashes)
		if err != nil {
			return 0, err
		}
		proof, err := tlog.ProveTree(tree.N, size, hashes)
		if err != nil {
			return 0, err
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, size, root); err != nil {
			return 0, fmt.Errorf("tree of %d entries: %w", size, err)
		}
		checked++
	}
	return checked, nil
}

// A cosigner is a witness's key of C2SP tlog-cosignature, which the library leaves to its callers.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func newCosigner(vkey string) (*cosigner, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("malformed witness key")
	}
	material, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(material) != 1+ed25519.PublicKeySize || material[0] != algCosign {
		return nil, errors.New("malformed witness key")
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), material...))
	hash := binary.BigEndian.Uint32(sum[:])
	if fmt.Sprintf("%08x", hash) != parts[1] {
		return nil, errors.New("the witness key's hash is another")
	}
	return &cosigner{parts[0], hash, material[1:]}, nil
}

func (c *cosigner) Name() string    { return c.name }
func (c *cosigner) KeyHash() uint32 { return c.hash }
func (c *cosigner) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	time := binary.BigEndian.Uint64(signature)
	message := append([]byte(fmt.Sprintf("cosignature/v1\ntime %d\n", time)), text...)
	return ed25519.Verify(c.key, message, signature[8:])
}

// Writing.

type written struct {
	VKey        string              `json:"vkey"`
	Size        int64               `json:"size"`
	Root        string              `json:"root"`
	Inclusion   map[string][]string `json:"inclusion"`
	Consistency map[string][]string `json:"consistency"`
	PastRoots   map[string]string   `json:"past_roots"`
}

func write(old int64, args []string) error {
	directory, origin := args[0], args[2]
	size, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil || size < 1 || size > 1<<20 || old > size {
		return errors.New("a log has 1 to 1048576 entries")
	}
	seed, err := strconv.ParseInt(args[3], 10, 64)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewSource(seed))
	secret, vkey, err := note.GenerateKey(random, origin)
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		return err
	}
	log := &memory{}
	for at := int64(0); at < size; at++ {
		entry := make([]byte, random.Intn(300))
		random.Read(entry)
		if err := log.add(entry); err != nil {
			return err
		}
	}
	if err := log.writeTiles(directory); err != nil {
		return err
	}
	root, err := tlog.TreeHash(size, log)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, size, root)
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		return err
	}
	if err := put(directory, "checkpoint", signed); err != nil {
		return err
	}
	return log.prove(written{VKey: vkey, Size: size, Root: hex.EncodeToString(root[:])}, old)
}

type memory struct {
	entries [][]byte
	hashes  []tlog.Hash
}

func (m *memory) add(entry []byte) error {
	stored, err := tlog.StoredHashes(int64(len(m.entries)), entry, m)
	if err != nil {
		return err
	}
	m.entries = append(m.entries, entry)
	m.hashes = append(m.hashes, stored...)
	return nil
}

func (m *memory) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for at, index := range indexes {
		found[at] = m.hashes[index]
	}
	return found, nil
}

func (m *memory) writeTiles(directory string) error {
	for _, tile := range tlog.NewTiles(height, 0, int64(len(m.entries))) {
		data, err := tlog.ReadTileData(tile, m)
		if err != nil {
			return err
		}
		if err := put(directory, tilePath(tile), data); err != nil {
			return err
		}
		if tile.L > 0 {
			continue
		}
		var bundle bytes.Buffer
		for _, entry := range m.entries[tile.N*width : tile.N*width+int64(tile.W)] {
			binary.Write(&bundle, binary.BigEndian, uint16(len(entry)))
			bundle.Write(entry)
		}
		tile.L = -1
		if err := put(directory, tilePath(tile), bundle.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) prove(result written, old int64) error {
	size := result.Size
	result.Inclusion, result.Consistency = map[string][]string{}, map[string][]string{}
	result.PastRoots = map[string]string{}
	for _, at := range []int64{0, size / 2, size - 1} {
		proof, err := tlog.ProveRecord(size, at, m)
		if err != nil {
			return err
		}
		result.Inclusion[strconv.FormatInt(at, 10)] = encode(proof)
	}
	for _, past := range []int64{1, size/3 + 1, size - size/7, old} {
		if past == 0 || past > size {
			continue
		}
		proof, err := tlog.ProveTree(size, past, m)
		if err != nil {
			return err
		}
		root, err := tlog.TreeHash(past, m)
		if err != nil {
			return err
		}
		name := strconv.FormatInt(past, 10)
		result.Consistency[name] = encode(proof)
		result.PastRoots[name] = hex.EncodeToString(root[:])
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

func encode(hashes []tlog.Hash) []string {
	found := []string{}
	for _, hash := range hashes {
		found = append(found, base64.StdEncoding.EncodeToString(hash[:]))
	}
	return found
}

func put(directory, name string, data []byte) error {
	path := filepath.Join(directory, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
