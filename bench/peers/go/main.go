// net/http with lib/pq through database/sql: `go-pq HOST:PORT [POOL]`, where POOL limits open and idle connections.
package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	_ "github.com/lib/pq"
)

var letters = regexp.MustCompile(`^[A-Za-z]{1,255}$`)

type person struct {
	DateOfBirth string `json:"dateOfBirth"`
}

type greeting struct {
	Message string `json:"message"`
}

func birthdayIn(year int, born time.Time) time.Time {
	return time.Date(year, born.Month(), born.Day(), 0, 0, 0, 0, time.UTC)
}

func greet(name string, born time.Time) greeting {
	today := time.Now().UTC().Truncate(24 * time.Hour)
	next := birthdayIn(today.Year(), born)
	if next.Before(today) {
		next = birthdayIn(today.Year()+1, born)
	}
	days := int(next.Sub(today).Hours() / 24)
	if days == 0 {
		return greeting{fmt.Sprintf("Hello, %s! Happy birthday!", name)}
	}
	return greeting{fmt.Sprintf("Hello, %s! Your birthday is in %d day(s)", name, days)}
}

type service struct{ db *sql.DB }

func (s service) get(w http.ResponseWriter, r *http.Request, name string) {
	var born time.Time
	row := s.db.QueryRowContext(r.Context(), "SELECT date_of_birth FROM users WHERE username = $1", strings.ToLower(name))
	switch err := row.Scan(&born); {
	case err == sql.ErrNoRows:
		http.Error(w, "no such user", http.StatusNotFound)
	case err != nil:
		http.Error(w, "unavailable", http.StatusServiceUnavailable)
	default:
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(greet(name, born))
	}
}

func (s service) put(w http.ResponseWriter, r *http.Request, name string) {
	var p person
	if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
		http.Error(w, "bad body", http.StatusBadRequest)
		return
	}
	born, err := time.Parse("2006-01-02", p.DateOfBirth)
	if err != nil || !born.Before(time.Now().UTC().Truncate(24*time.Hour)) {
		http.Error(w, "no date of birth", http.StatusBadRequest)
		return
	}
	_, err = s.db.ExecContext(r.Context(), `INSERT INTO users (username, date_of_birth) VALUES ($1, $2)
		ON CONFLICT (username) DO UPDATE SET date_of_birth = excluded.date_of_birth`, strings.ToLower(name), born)
	if err != nil {
		http.Error(w, "unavailable", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/hello/")
	switch {
	case !letters.MatchString(name):
		http.Error(w, "bad name", http.StatusBadRequest)
	case r.Method == http.MethodGet:
		s.get(w, r, name)
	case r.Method == http.MethodPut:
		s.put(w, r, name)
	default:
		http.Error(w, "bad method", http.StatusMethodNotAllowed)
	}
}

func main() {
	db, err := sql.Open("postgres", os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	if len(os.Args) > 2 {
		limit, err := strconv.Atoi(os.Args[2])
		if err != nil {
			log.Fatal(err)
		}
		db.SetMaxOpenConns(limit)
		db.SetMaxIdleConns(limit)
	}
	mux := http.NewServeMux()
	mux.Handle("/hello/", service{db})
	log.Fatal(http.ListenAndServe(os.Args[1], mux))
}
