"""Our own words for the 80 categories of COCO: what is used where no `--synonyms` file is given.

Written for this project in the layout of the official files: one category a line, its own name first. The official
tables (synonyms.txt of LisaAnne/Hallucination, synonyms_refine.txt of RLHF-V) hold other words, so numbers made with
this one say so in their signature.
"""

DEFAULT_TABLE = """\
person, man, woman, boy, girl, child, children, kid, baby, toddler, infant, adult, people, teenager, guy, lady, \
gentleman, mother, father, parent, sister, brother, son, daughter, player, rider, worker, driver, passenger, \
pedestrian, officer, policeman, soldier, chef, doctor, nurse, student, teacher, skier, snowboarder, skateboarder, \
surfer, skater, cyclist, biker, swimmer, batter, catcher, pitcher, umpire, bride, groom, tourist, spectator, \
shopper, farmer, fisherman, businessman
bicycle, bike, tricycle
car, automobile, sedan, suv, van, minivan, taxi, cab, jeep, limousine, hatchback
motorcycle, motorbike, motor bike, scooter, moped
airplane, plane, aeroplane, aircraft, jet, airliner, biplane, jetliner
bus, minibus, double decker
train, locomotive, tram
truck, lorry, pickup, firetruck, fire truck, tractor trailer
boat, ship, sailboat, rowboat, speedboat, motorboat, canoe, kayak, yacht, ferry, dinghy, gondola, barge, tugboat
traffic light, stoplight, stop light, traffic signal, street light, streetlight
fire hydrant, hydrant
stop sign
parking meter
bench, pew
bird, duck, goose, swan, gull, seagull, pigeon, parrot, owl, eagle, hawk, crow, sparrow, robin, rooster, turkey, \
peacock, penguin, ostrich, flamingo, pelican, heron, stork
cat, kitten, kitty, tabby
dog, puppy, pup, hound, bulldog, poodle, terrier, retriever, labrador, dachshund, beagle, collie, corgi, husky, pug
horse, pony, foal, mare, stallion, colt
sheep, lamb, ewe, ram
cow, cattle, bull, calf, ox, oxen
elephant
bear, panda
zebra
giraffe
backpack, rucksack, knapsack, back pack
umbrella, parasol
handbag, purse, pocketbook, hand bag
tie, necktie, bow tie
suitcase, luggage, suit case
frisbee
skis, ski
snowboard
sports ball, ball, tennis ball, soccer ball
kite
baseball bat, bat
baseball glove, mitt
skateboard
surfboard, surf board, bodyboard
tennis racket, racket, racquet
bottle
wine glass, wineglass
cup, mug, teacup
fork
knife, pocketknife
spoon, teaspoon
bowl
banana
apple
sandwich, burger, hamburger, cheeseburger
orange, tangerine, clementine
broccoli
carrot
hot dog, hotdog
pizza
donut, doughnut
cake, cupcake, cheesecake
chair, armchair, stool, seat
couch, sofa, loveseat, futon
potted plant, houseplant, pot plant
bed
dining table, table, desk, coffee table
toilet, urinal
tv, television, monitor, tv screen
laptop, notebook computer, laptop computer
mouse
remote, remote control
keyboard
cell phone, phone, cellphone, smartphone, mobile phone, telephone, iphone
microwave, microwave oven
oven, stove
toaster
sink, washbasin
refrigerator, fridge, freezer
book
clock
vase
scissors
teddy bear, teddy, stuffed bear
hair drier, hair dryer, hairdryer, blow dryer
toothbrush
"""
