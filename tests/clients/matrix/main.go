// What golang.org/x/crypto/ssh does with a bastion: a line for each thing that it can do.
//
//	matrix HOST:PORT USER PRIVATE_KEY HOST_KEY
//	matrix HOST:PORT USER PRIVATE_KEY HOST_KEY CERTIFICATE   with it, and only the first of them
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// In bytes.
var bulk = mebibytes() << 20

func mebibytes() int64 {
	if n, err := strconv.ParseInt(os.Getenv("BASTION_TEST_BULK_MIB"), 10, 64); err == nil {
		return n
	}
	return 32
}

func main() {
	client := dial(0)
	exec(client)
	if len(os.Args) > 5 {
		return
	}
	terminal(client)
	carry(client, "bulk")
	client.Close()

	// Each side asks for new keys again and again while bytes go both ways.
	rekeyed := dial(1 << 20)
	carry(rekeyed, "rekey")
	halfClose(rekeyed)
	stalled(rekeyed)
	fifty(rekeyed)
	rekeyed.Close()
}

func dial(rekey uint64) *ssh.Client {
	key, err := ssh.ParsePrivateKey(read(os.Args[3]))
	check("key", err)
	if len(os.Args) > 5 {
		key = certified(key, os.Args[5])
	}
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey(read(os.Args[4]))
	check("host key", err)
	client, err := ssh.Dial("tcp", os.Args[1], &ssh.ClientConfig{
		Config:          ssh.Config{RekeyThreshold: rekey},
		User:            os.Args[2],
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.FixedHostKey(hostKey),
		Timeout:         10 * time.Second,
	})
	check("dial", err)
	return client
}

func certified(key ssh.Signer, path string) ssh.Signer {
	public, _, _, _, err := ssh.ParseAuthorizedKey(read(path))
	check("certificate", err)
	signer, err := ssh.NewCertSigner(public.(*ssh.Certificate), key)
	check("certificate", err)
	return signer
}

func exec(client *ssh.Client) {
	session := open(client)
	var stdout, stderr bytes.Buffer
	session.Stdout, session.Stderr = &stdout, &stderr
	err := session.Run("echo out; echo err >&2; exit 7")
	var exit *ssh.ExitError
	ok := errors.As(err, &exit) && exit.ExitStatus() == 7 && stdout.String() == "out\n" && stderr.String() == "err\n"
	say("exec", ok, err, stdout.String(), stderr.String())
}

func terminal(client *ssh.Client) {
	session := open(client)
	check("pty", session.RequestPty("xterm", 30, 100, ssh.TerminalModes{ssh.ECHO: 0}))
	stdin, err := session.StdinPipe()
	check("stdin", err)
	stdout, err := session.StdoutPipe()
	check("stdout", err)
	check("start", session.Start("stty size; read line; stty size"))
	first := line(stdout)
	check("resize", session.WindowChange(40, 120))
	time.Sleep(200 * time.Millisecond)
	fmt.Fprintln(stdin, "go")
	second := line(stdout)
	say("terminal", first == "30 100" && second == "40 120", first, second, session.Wait())
}

func line(from io.Reader) string {
	var read []byte
	for one := make([]byte, 1); !bytes.HasSuffix(read, []byte("\n")); read = append(read, one...) {
		if _, err := io.ReadFull(from, one); err != nil {
			return err.Error()
		}
	}
	return strings.TrimSpace(string(read))
}

func carry(client *ssh.Client, name string) {
	session := open(client)
	sent := make([]byte, bulk)
	rand.Read(sent)
	session.Stdin = bytes.NewReader(sent)
	digest := sha256.New()
	session.Stdout = digest
	err := session.Run("cat")
	say(name, err == nil && bytes.Equal(digest.Sum(nil), sum(sent)), err)
}

func sum(of []byte) []byte {
	digest := sha256.Sum256(of)
	return digest[:]
}

func halfClose(client *ssh.Client) {
	session := open(client)
	session.Stdin = strings.NewReader("in")
	output, err := session.Output("cat; sleep 0.3; echo after")
	say("half-close", err == nil && string(output) == "inafter\n", err, string(output))
}

// Nobody reads for a while: the command waits, other channels go on, and nothing is lost.
func stalled(client *ssh.Client) {
	session := open(client)
	stdout, err := session.StdoutPipe()
	check("stdout", err)
	check("start", session.Start(fmt.Sprintf("head -c %d /dev/zero", bulk)))
	time.Sleep(time.Second)
	output, err := open(client).Output("echo other")
	taken, _ := io.Copy(io.Discard, stdout)
	say("stalled", err == nil && string(output) == "other\n" && taken == bulk, err, taken, session.Wait())
}

func fifty(client *ssh.Client) {
	for n := range 50 {
		output, err := open(client).Output(fmt.Sprintf("echo %d", n))
		if err != nil || string(output) != fmt.Sprintf("%d\n", n) {
			say("fifty", false, n, err, string(output))
			return
		}
	}
	say("fifty", true)
}

func open(client *ssh.Client) *ssh.Session {
	session, err := client.NewSession()
	check("session", err)
	return session
}

func read(path string) []byte {
	content, err := os.ReadFile(path)
	check(path, err)
	return content
}

func check(what string, err error) {
	if err != nil {
		fmt.Printf("%s: %v\n", what, err)
		os.Exit(1)
	}
}

func say(what string, ok bool, seen ...any) {
	if ok {
		fmt.Println(what)
	} else {
		fmt.Println(what, "FAILED:", fmt.Sprint(seen...))
	}
}
