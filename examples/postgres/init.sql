CREATE TABLE greeting (id integer PRIMARY KEY, words text NOT NULL);

INSERT INTO greeting VALUES (1, 'hello from a microVM');

